"""RaBitQ: a bit a dimension of randomly rotated residuals (Gao & Long, SIGMOD 2024; FAISS).

Its estimates are unbiased, with an error that is known; more bits a dimension need no training
either (extended RaBitQ, Gao et al. 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.index.ivf import Lists
from neurosearch.index.ivfpq import rotated
from neurosearch.index.parameters import made_of, through


@dataclass(frozen=True)
class RaBitQ(Lists):
    """Attributes:
    bits: of a dimension.
    query_bits: of a query's dimension while it is compared; 0 for floats.
    """

    bits: int = setting(1, least=1, most=9)
    query_bits: int = setting(4, least=0, most=8)

    searching: ClassVar[Mapping[str, Any]] = {"probes": 1, "query_bits": 4}
    needs_refinement: ClassVar[bool] = True

    @property
    def keeps_floats(self) -> bool:
        return False

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        width, cells = sample.shape[1], self.made(count)
        coarse, metric = faiss.IndexFlatIP(width), faiss.METRIC_INNER_PRODUCT
        inner = faiss.IndexIVFRaBitQ(coarse, width, cells, metric, True, self.bits)
        inner.cp.seed = self.seed + 1
        index = rotated(inner, "random", 1, self.seed)
        index.train(sample)
        return index

    def parameters(self, index: Any, k: int, selector: Any, whole: bool) -> Any:
        import faiss

        kind, probes = faiss.IVFRaBitQSearchParameters, self.probed(index, whole)
        made = made_of(kind, nprobe=probes, qb=self.query_bits, sel=selector)
        return through(index, made)

    def coded(self, count: int, width: int) -> float:
        code = width / 8 + 8 if self.bits == 1 else self.bits * width / 8 + 20
        return code + self.listed(count, width) + 4.0 * width * width / count

    def label(self) -> str:
        return f"IVF{self.cells},RaBitQ{self.bits} probes {self.probes}"
