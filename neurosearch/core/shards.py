"""Vectors written shard by shard, so that a killed encoding loses one shard at most.

`Shards`: rows of one matrix whose shape is known. `Parts`: arrays of any sizes.

A shard counts once the journal names it, which is written after its rows have reached the file. The
journal also holds the rows' digest: a shard whose rows are no longer what was written is encoded
again.
"""

from __future__ import annotations

import hashlib
import mmap
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core.distributed import barrier, world
from neurosearch.core.machine import log

SHARD = 2048  # texts
BLOCK = 200_000  # rows that are in memory at a time
STORED = {"float": np.float32, "half": np.float16}


class Shards:
    """An N×D vectors.npy in the making.

    Attributes:
        vectors: the memory-mapped file.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], stored: str = "float") -> None:
        """Open or make the file. Processes share one.

        Args:
            folder: of the artifact.
            shape: N, D.
            stored: `float` (4 bytes a number) or `half` (2).
        """
        self._journal, path = folder / "journal.txt", folder / "vectors.npy"
        kind = np.dtype(STORED[stored])
        if world()[0] == 0 and not self._is_there(path, shape, kind):
            np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape).flush()
            self._journal.write_text("")
        barrier()
        self.vectors = np.lib.format.open_memmap(path, mode="r+")
        lines = self._journal.read_text(errors="replace").splitlines()
        self._digests = dict(line.partition(" ")[::2] for line in lines)
        barrier()  # all have read the journal before any process writes to it

    def _is_there(self, path: Path, shape: tuple[int, int], kind: np.dtype[Any]) -> bool:
        if not (path.exists() and self._journal.exists()):
            return False
        try:
            there = np.lib.format.open_memmap(path, mode="r")
        except ValueError:  # torn before its first shard was written
            return False
        return bool(there.shape == shape and there.dtype == kind)

    def has(self, number: int, rows: np.ndarray) -> bool:
        """Whether an earlier attempt has written a shard, and it is still what was written."""
        known = self._digests.get(str(number))
        if known is not None and known != self._digest(rows):
            log.warning("%s: shard %s is damaged: encoding it again", self._journal, number)
            return False
        return known is not None

    def _digest(self, rows: np.ndarray) -> str:
        held = np.ascontiguousarray(self.vectors[rows])
        return hashlib.blake2b(held.tobytes(), digest_size=8).hexdigest()

    def write(self, number: int, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Write a shard's rows, then its line in the journal."""
        self.vectors[rows] = vectors
        self.vectors.flush()
        with self._journal.open("a") as handle:
            handle.write(f"{number} {self._digest(rows)}\n")
        forgotten(self.vectors)

    def close(self) -> None:
        """Wait for all processes; the journal goes."""
        barrier()
        if world()[0] == 0:
            self._journal.unlink()


def forgotten(vectors: np.ndarray) -> None:
    """Give back the memory of a mapped file's pages; they are read again where they are wanted.

    Args:
        vectors: an array, or a view of one; nothing is done where no file is mapped.
    """
    mapped = getattr(vectors, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def blocks_of(vectors: np.ndarray, size: int = BLOCK) -> Iterator[np.ndarray]:
    """float32 copies of a matrix's rows, block by block; a mapped file's memory is given back.

    Args:
        vectors: N×D, of any float type.
        size: rows of a block.

    Returns:
        An iterator of B×D float32, in order.
    """
    for start in range(0, len(vectors), size):
        yield np.array(vectors[start : start + size], dtype=np.float32, order="C")
        forgotten(vectors)


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
