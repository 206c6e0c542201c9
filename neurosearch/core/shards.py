"""Vectors written shard by shard, so that a killed encoding loses one shard at most.

A shard counts once the journal names it, which is written after its rows have reached the file. The
journal also holds the rows' digest: a shard whose rows are no longer what was written is encoded
again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from neurosearch.core.distributed import barrier, world
from neurosearch.core.machine import log

SHARD = 2048  # texts


class Shards:
    """An N×D float32 vectors.npy in the making.

    Attributes:
        vectors: the memory-mapped file.
        done: numbers of the shards that an earlier attempt has finished.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], rows: list[np.ndarray]) -> None:
        """Open or make the file; `rows`: those of each shard. Processes share one file."""
        self._rows = rows
        self._journal, path = folder / "journal.txt", folder / "vectors.npy"
        if world()[0] == 0 and not self._is_there(path, shape):
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape).flush()
            self._journal.write_text("")
        barrier()
        self.vectors = np.lib.format.open_memmap(path, mode="r+")
        self.done = self._finished()
        barrier()  # all have read the journal before any process writes to it

    def _is_there(self, path: Path, shape: tuple[int, int]) -> bool:
        if not (path.exists() and self._journal.exists()):
            return False
        try:
            there = np.lib.format.open_memmap(path, mode="r")
        except ValueError:  # torn before its first shard was written
            return False
        return bool(there.shape == shape and there.dtype == np.float32)

    def _finished(self) -> set[int]:
        done: set[int] = set()
        for line in self._journal.read_text(errors="replace").splitlines():
            number, _, digest = line.partition(" ")
            known = number.isdigit() and int(number) < len(self._rows)
            if known and digest == self._digest(int(number)):
                done.add(int(number))
            else:
                log.warning("%s: shard %s is damaged: encoding it again", self._journal, number)
        return done

    def _digest(self, number: int) -> str:
        rows = np.ascontiguousarray(self.vectors[self._rows[number]])
        return hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()

    def write(self, number: int, vectors: np.ndarray) -> None:
        """Write a shard's rows, then its line in the journal."""
        self.vectors[self._rows[number]] = vectors
        self.vectors.flush()
        with self._journal.open("a") as handle:
            handle.write(f"{number} {self._digest(number)}\n")

    def close(self) -> None:
        """Wait for all processes; the journal goes."""
        barrier()
        if world()[0] == 0:
            self._journal.unlink()
