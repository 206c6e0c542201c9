"""Vectors that codes stand for, read off the products that have them.

c_l of a product stands for the mean of what the codes before it leave over, over all products with
that code: r_0 = x - mean; e_l,k = mean of r_l where c_l = k; r_l+1 = r_l - e_l,c_l. For residual
quantization these are its codebooks (each level's k-means ends there); for other IDs they are the
best guess of that form, and near zero where codes mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.vectors import Embeddings


@dataclass(frozen=True)
class CodeVectors:
    """`mean` D float32; `books`: K_l×D float32 of each level."""

    mean: np.ndarray
    books: tuple[np.ndarray, ...]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """N×D float32 vectors that codes stand for.

        Args:
            codes: N×L, or the first levels of them.

        Returns:
            Sums of the mean and one vector a level.
        """
        total = np.repeat(self.mean[None], len(codes), axis=0)
        for level in range(codes.shape[1]):
            total += self.books[level][codes[:, level]]
        return total


@dataclass(frozen=True)
class Codewords(Artifact[CodeVectors]):
    """codewords.npz: `mean`, and a book of each level by its number."""

    kind: ClassVar[str] = "codewords"
    ids: Artifact[SemanticIds]
    embeddings: Artifact[Embeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        ids, vectors = runtime.get(self.ids), runtime.get(self.embeddings).vectors
        left = np.array(vectors, dtype=np.float32)
        mean = left.mean(axis=0)
        left -= mean
        energy, shares = float(np.square(left).sum()), []
        books: dict[str, Any] = {}
        for level, size in enumerate(ids.sizes):
            codes = np.asarray(ids.codes[:, level])
            book = np.zeros((size, left.shape[1]), dtype=np.float64)
            np.add.at(book, codes, left)
            book /= np.maximum(np.bincount(codes, minlength=size), 1)[:, None]
            books[str(level)] = book.astype(np.float32)
            left -= books[str(level)][codes]
            shares.append(round(1 - float(np.square(left).sum()) / max(energy, 1e-12), 4))
        np.savez(folder / "codewords.npz", mean=mean, **books)
        return {"variance that the levels explain": shares}

    def load(self, folder: Path) -> CodeVectors:
        with np.load(folder / "codewords.npz") as stored:
            books = tuple(stored[str(level)] for level in range(len(stored.files) - 1))
            return CodeVectors(stored["mean"], books)
