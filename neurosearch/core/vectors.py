"""Stored vectors of texts and of tokens, and weights of terms, memory-mapped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Embeddings:
    """N×D float32 vectors of texts, memory-mapped, with the encoder that made them."""

    vectors: np.ndarray
    encoder: str  # fingerprint: an index refuses vectors of another encoder

    @classmethod
    def load(cls, folder: Path) -> Embeddings:
        """Read vectors.npy and the encoder's identity.

        Args:
            folder: of the artifact.

        Returns:
            The vectors, memory-mapped.
        """
        meta = json.loads((folder / "embeddings.json").read_text(encoding="utf-8"))
        return cls(np.load(folder / "vectors.npy", mmap_mode="r"), meta["encoder"])


@dataclass(frozen=True)
class TokenEmbeddings:
    """S×D float16 unit vectors of tokens, memory-mapped: text i has those from offsets[i] on."""

    vectors: np.ndarray
    offsets: np.ndarray  # N+1
    encoder: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, text: int) -> np.ndarray:
        """L×D float32 token vectors of a text.

        Args:
            text: its number.

        Returns:
            L×D float32.
        """
        begin, end = self.offsets[text], self.offsets[text + 1]
        return np.asarray(self.vectors[begin:end], dtype=np.float32)

    @classmethod
    def load(cls, folder: Path) -> TokenEmbeddings:
        """Read the vectors of the tokens and where each text begins.

        Args:
            folder: of the artifact.

        Returns:
            The vectors, memory-mapped.
        """
        meta = json.loads((folder / "embeddings.json").read_text(encoding="utf-8"))
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        return cls(vectors, np.load(folder / "offsets.npy"), meta["encoder"])


@dataclass(frozen=True)
class SparseVectors:
    """Weights of terms: an N×V SciPy CSR matrix of positive float32 numbers, and its encoder."""

    matrix: Any
    encoder: str

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def save(self, folder: Path) -> None:
        """Write the matrix's three arrays, and the encoder's identity.

        Args:
            folder: of the artifact.
        """
        for name in ("data", "indices", "indptr"):
            np.save(folder / f"{name}.npy", getattr(self.matrix, name))
        meta = {"encoder": self.encoder, "terms": int(self.matrix.shape[1])}
        (folder / "embeddings.json").write_text(json.dumps(meta), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SparseVectors:
        """Read what `save` wrote.

        Args:
            folder: of the artifact.

        Returns:
            The weights, memory-mapped.
        """
        from scipy.sparse import csr_matrix

        meta = json.loads((folder / "embeddings.json").read_text(encoding="utf-8"))
        names = ("data", "indices", "indptr")
        data, indices, indptr = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in names)
        shape = (len(indptr) - 1, meta["terms"])
        return cls(csr_matrix((data, indices, indptr), shape=shape, copy=False), meta["encoder"])
