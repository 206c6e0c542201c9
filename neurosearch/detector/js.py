"""Jensen-Shannon divergence (base 2) of labels: 0 for equal shares, 1 for disjoint ones.

Lin, "Divergence measures based on the Shannon entropy", IEEE TIT 1991.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.detector.base import LABELS, Detector, Sample, shares


@dataclass(frozen=True)
class Js(Detector):
    reads: ClassVar[str] = LABELS

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        p, q = shares(sample.values, int(sample.values.max()) + 1, members)
        middle = (p + q) / 2
        divergence = p * np.log2(p / middle) + q * np.log2(q / middle)
        found: np.ndarray = divergence.sum(axis=1) / 2
        return found

    def label(self) -> str:
        return "Jensen-Shannon"
