"""Scalar quantisation: 16, 8, 6 or 4 bits a dimension, ranges learnt per dimension (FAISS SQ).

Queries stay floats (asymmetric inner product). 16 bits are half-precision floats, without training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.index.base import Index

BITS = (16, 8, 6, 4)


@dataclass(frozen=True)
class SQ(Index):
    """`bits`: of a dimension."""

    bits: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in BITS:
            raise self.error("bits", f"must be one of {', '.join(map(str, BITS))}, not {self.bits}")

    @property
    def keeps_floats(self) -> bool:
        return False

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        kinds = faiss.ScalarQuantizer
        kind = {16: kinds.QT_fp16, 8: kinds.QT_8bit, 6: kinds.QT_6bit, 4: kinds.QT_4bit}[self.bits]
        index = faiss.IndexScalarQuantizer(sample.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
        index.train(sample)
        return index

    def coded(self, count: int, width: int) -> float:
        ranges = 0.0 if self.bits == 16 else 8.0 * width / count
        return self.bits / 8 * width + ranges

    def label(self) -> str:
        return f"{super().label().replace('SQ', f'SQ{self.bits}', 1)}"
