"""Vectors written shard by shard, so that a killed encoding loses one shard at most.

`Shards`: rows of one matrix whose shape is known. `Parts`: arrays of any sizes.

A shard counts once the journal names it, which is written after its rows have reached the file. The
journal also holds the rows' digest: a shard whose rows are no longer what was written is encoded
again.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
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


class Parts:
    """Arrays whose sizes are known only when they are made, in a file for each shard of texts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "parts"
        self._folder.mkdir(exist_ok=True)

    def missing(self, number: int) -> bool:
        """Whether this process is to make a shard, which no earlier attempt has left whole."""
        rank, processes = world()
        return number % processes == rank and not _is_whole(self._path(number))

    def write(self, number: int, **arrays: np.ndarray) -> None:
        """Write a shard's arrays, whole or not at all."""
        temporary = self._path(number).with_suffix(".tmp.npz")
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
        temporary.replace(self._path(number))

    def arrays(self, name: str) -> Iterator[np.ndarray]:
        """Each shard's array of a name, in order; no other array is read."""
        for path in sorted(self._folder.glob("*.npz")):
            with np.load(path) as stored:
                yield stored[name]

    def remove(self) -> None:
        """Delete them, once what they were made for is written."""
        for path in self._folder.glob("*"):
            path.unlink()
        self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"


def _is_whole(path: Path) -> bool:
    """Whether a shard of an earlier attempt is there and intact (zip files hold checksums)."""
    try:
        with zipfile.ZipFile(path) as stored:
            return stored.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error):
        return False
