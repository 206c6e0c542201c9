"""Product quantisation of 4 bits, scanned in registers (André et al. 2017; FAISS IVFPQFastScan).

The fastest scan there is on a CPU, and the coarsest scores: of its candidates `refine` finds the
nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.index.ivf import Lists
from neurosearch.index.ivfpq import parts_of


@dataclass(frozen=True)
class FastScan(Lists):
    """`parts`: of a vector, half a byte each, None for a quarter of the width; `residual`: quantise
    what the cell leaves over."""

    parts: int | None = setting(None, least=1)
    residual: bool = True

    needs_refinement: ClassVar[bool] = True

    @property
    def keeps_floats(self) -> bool:
        return False

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        width = sample.shape[1]
        parts = parts_of(width, self.parts, 4)
        coarse, cells = faiss.IndexFlatIP(width), self.made(count)
        metric = faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexIVFPQFastScan(coarse, width, cells, parts, 4, metric)
        index.by_residual = self.residual
        index.cp.seed = index.pq.cp.seed = self.seed + 1
        index.train(sample)
        return index

    def coded(self, count: int, width: int) -> float:
        # Lists are padded to blocks of 32 codes, on average by half a block.
        parts = parts_of(width, self.parts, 4)
        padded = 7.75 * parts * self.made(count) / count
        return parts / 2 + self.listed(count, width) + 64.0 * width / count + padded

    def label(self) -> str:
        return f"IVF{self.cells},PQ{self.parts or ''}x4fs probes {self.probes}"
