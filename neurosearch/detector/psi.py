"""Population stability index: sum (p - q) ln(p / q) over the reference's quantiles.

Known from credit scoring (Siddiqi 2006); the symmetric Kullback-Leibler divergence of two
histograms. Its null depends on the sizes of the two samples, so no fixed threshold can be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.detector.base import NUMBERS, Detector, Sample, shares


@dataclass(frozen=True)
class Psi(Detector):
    """`bins`: quantiles of the reference; equal numbers fall into one."""

    bins: int = setting(10, least=2)

    reads: ClassVar[str] = NUMBERS

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        reference = sample.values[~sample.in_window]
        edges = np.unique(np.quantile(reference, np.linspace(0, 1, self.bins + 1)[1:-1]))
        codes = np.searchsorted(edges, sample.values, side="left")
        p, q = shares(codes, len(edges) + 1, members)
        found: np.ndarray = ((p - q) * np.log(p / q)).sum(axis=1)
        return found

    def label(self) -> str:
        return "PSI"
