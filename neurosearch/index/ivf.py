"""Inverted lists (FAISS IVFFlat): the products of the `probes` nearest k-means cells are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.index.base import Index, LiveIndex, behind_reduction


@dataclass(frozen=True)
class LiveIVF(LiveIndex):
    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: the centroids, and what the probed lists hold."""
        inverted, vectors = behind_reduction(self.index, vectors)
        _, cells = inverted.quantizer.search(vectors, inverted.nprobe)
        sizes = np.array([inverted.invlists.list_size(i) for i in range(inverted.nlist)])
        probed: np.ndarray = np.where(cells >= 0, sizes[cells], 0).sum(axis=1)
        return probed + int(inverted.nlist)


@dataclass(frozen=True)
class IVF(Index):
    """`cells`: of the k-means; at most one for 39 products are made."""

    cells: int = setting(256, least=1)
    probes: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.probes <= self.cells:
            raise self.error("probes", f"is {self.probes}: 1 to index.cells={self.cells}")

    def train(self, vectors: np.ndarray) -> Any:
        import faiss

        cells = max(1, min(self.cells, len(vectors) // 39))
        width = vectors.shape[1]
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.seed = self.seed + 1
        index.train(vectors)
        index.add(vectors)
        return index

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        import faiss

        faiss.extract_index_ivf(index).nprobe = self.probes
        return LiveIVF(index, encoder, rows)

    def label(self) -> str:
        return f"{super().label()}{self.cells} probes {self.probes}"
