"""Scalar quantisation to 8 bits a dimension, ranges learnt per dimension (FAISS QT_8bit).

A quarter of float32's bytes; queries stay floats (asymmetric inner product).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.index.base import Index


@dataclass(frozen=True)
class SQ8(Index):
    def train(self, vectors: np.ndarray) -> Any:
        import faiss

        kind = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexScalarQuantizer(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(np.ascontiguousarray(vectors))
        return index
