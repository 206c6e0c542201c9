"""Exact search: every vector is compared (FAISS IndexFlatIP; linear, not approximate)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.index.base import Index


@dataclass(frozen=True)
class Flat(Index):
    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        return faiss.IndexFlatIP(sample.shape[1])

    def coded(self, count: int, width: int) -> float:
        return 4.0 * width
