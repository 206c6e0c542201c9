"""Semantic IDs: a tuple of codes for each product."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class SemanticIds:
    """N×L codes (int32) of a catalogue's products.

    `sizes`: how many codes each level has. The first `semantic` levels are the tokenizer's; a
    further one only tells products apart that share them.
    """

    codes: np.ndarray
    sizes: tuple[int, ...]
    semantic: int

    def __len__(self) -> int:
        return len(self.codes)

    def keys(self, levels: int | None = None) -> np.ndarray:
        """N int64 numbers of the distinct prefixes of `levels` codes, in the order of codes.

        Args:
            levels: codes of a prefix; None for whole IDs.

        Returns:
            N int64; two products have the same number if their prefixes are equal.
        """
        count = self.codes.shape[1] if levels is None else levels
        keys = np.zeros(len(self.codes), dtype=np.int64)
        for level in range(count):
            # Unseen products may have codes past the catalogue's.
            base = max(self.sizes[level], int(self.codes[:, level].max(initial=0)) + 1)
            joined = keys * base + self.codes[:, level]
            keys = np.unique(joined, return_inverse=True)[1].astype(np.int64)
        return keys

    def save(self, folder: Path) -> None:
        """Write codes.npy and the sizes of the levels.

        Args:
            folder: of the artifact.
        """
        np.save(folder / "codes.npy", self.codes.astype(np.int32))
        meta = {"sizes": list(self.sizes), "semantic": self.semantic}
        (folder / "ids.json").write_text(json.dumps(meta), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SemanticIds:
        """Read what `save` wrote.

        Args:
            folder: of the artifact.

        Returns:
            The IDs; the codes are memory-mapped.
        """
        meta = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        codes = np.load(folder / "codes.npy", mmap_mode="r")
        return cls(codes, tuple(meta["sizes"]), meta["semantic"])


@dataclass(frozen=True)
class WrittenIds:
    """What a generator writes for a split's queries, without any judgment.

    Attributes:
        validity: Q float, the share of the ten best unconstrained sequences that are IDs.
        codes: Q×10×L, the ten best constrained IDs.
        query, row: P numbers of the pairs of the judged pool, sorted by both.
        losses: P×L, minus the log-probability (nats) of each code of the pair's product, given
            the codes before it.
        pool_codes: P×L, the codes of the pair's product.
    """

    validity: np.ndarray
    codes: np.ndarray
    query: np.ndarray
    row: np.ndarray
    losses: np.ndarray
    pool_codes: np.ndarray
