"""Exact search: every vector is compared (FAISS IndexFlatIP; linear, not approximate)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.index.base import Index


@dataclass(frozen=True)
class Flat(Index):
    def train(self, vectors: np.ndarray) -> Any:
        import faiss

        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        return index
