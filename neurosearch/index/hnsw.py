"""A navigable graph of neighbours (HNSW, Malkov & Yashunin 2018; FAISS IndexHNSWFlat)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.index.base import Index
from neurosearch.index.live import LiveIndex
from neurosearch.index.parameters import behind_reduction, best_of, is_narrow, made_of, through


@dataclass(frozen=True)
class LiveHNSW(LiveIndex):
    def nearest(
        self, vectors: np.ndarray, k: int, subset: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if subset is None or not is_narrow(subset):
            return super().nearest(vectors, k, subset)
        # Few nodes of a graph are hardly linked with each other; its vectors are kept as they are.
        inner, asked = behind_reduction(self.index, vectors)
        inside = np.flatnonzero(subset)
        if not len(inside):
            return best_of(np.empty((len(vectors), 0), np.float32), inside, k)
        return best_of(asked @ inner.storage.reconstruct_batch(inside).T, inside, k)

    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: the distances that each search computes, as FAISS counts them."""
        import faiss

        counters: Any = faiss.cvar
        statistics = counters.hnsw_stats
        parameters = self.recipe.parameters(self.index, 1, None, False)
        counts = np.empty(len(vectors), dtype=np.int64)
        for place in range(len(vectors)):
            statistics.reset()
            self.index.search(vectors[place : place + 1], 1, params=parameters)
            counts[place] = statistics.ndis
        return counts


@dataclass(frozen=True)
class HNSW(Index):
    """Attributes:
    neighbours: of a node on every layer but the lowest, which has twice as many (M).
    construction: nodes kept in sight while it is built (efConstruction).
    search: nodes kept in sight while it is searched (efSearch); at least as many as products are
        asked for, since a shorter list of candidates has a bad tail.
    """

    neighbours: int = setting(32, least=2)
    construction: int = setting(200, least=2)
    search: int = setting(64, least=2)

    searching: ClassVar[Mapping[str, Any]] = {"search": 64}

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        width = sample.shape[1]
        index = faiss.IndexHNSWFlat(width, self.neighbours, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.construction
        return index

    def parameters(self, index: Any, k: int, selector: Any, whole: bool) -> Any:
        import faiss

        library: Any = faiss
        effort = max(self.search, k)
        made = made_of(library.SearchParametersHNSW, efSearch=effort, sel=selector)
        return through(index, made)

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        return LiveHNSW(index, encoder, self, rows)

    def coded(self, count: int, width: int) -> float:
        m = self.neighbours
        return 4.0 * width + 8 * m + 4 * m / (m - 1) + 12

    def label(self) -> str:
        return f"{super().label()}{self.neighbours} ef {self.search}"
