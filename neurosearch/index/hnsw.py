"""A navigable graph of neighbours (HNSW, Malkov & Yashunin 2018; FAISS IndexHNSWFlat)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.index.base import Index, LiveIndex


@dataclass(frozen=True)
class LiveHNSW(LiveIndex):
    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: the distances that each search computes, as FAISS counts them."""
        import faiss

        counters: Any = faiss.cvar
        statistics = counters.hnsw_stats
        counts = np.empty(len(vectors), dtype=np.int64)
        for place in range(len(vectors)):
            statistics.reset()
            self.index.search(vectors[place : place + 1], 1)
            counts[place] = statistics.ndis
        return counts


@dataclass(frozen=True)
class HNSW(Index):
    """Attributes:
    neighbours: of a node on every layer but the lowest, which has twice as many (M).
    construction, search: nodes kept in sight (efConstruction, efSearch).
    """

    neighbours: int = setting(32, least=2)
    construction: int = setting(200, least=2)
    search: int = setting(64, least=2)

    def train(self, vectors: np.ndarray) -> Any:
        import faiss

        width = vectors.shape[1]
        index = faiss.IndexHNSWFlat(width, self.neighbours, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.construction
        index.add(vectors)
        return index

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        import faiss

        inner = index
        while hasattr(inner, "chain"):
            inner = faiss.downcast_index(inner.index)
        inner.hnsw.efSearch = self.search
        return LiveHNSW(index, encoder, rows)

    def label(self) -> str:
        return f"{super().label()}{self.neighbours} ef {self.search}"
