"""Kolmogorov-Smirnov: the largest distance of two distribution functions.

Its tables hold for continuous numbers; lengths are discrete, hence the permutations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.detector.base import NUMBERS, Detector, Sample


@dataclass(frozen=True)
class Ks(Detector):
    reads: ClassVar[str] = NUMBERS

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        order = np.argsort(sample.values, kind="stable")
        ordered = sample.values[order]
        last = np.append(ordered[1:] != ordered[:-1], True)  # of equal numbers
        found = np.empty(len(members))
        for number, inside in enumerate(members):
            below = np.cumsum(inside[order])
            size = below[-1]
            rest = np.arange(1, len(order) + 1) - below
            found[number] = np.abs(below / size - rest / (len(order) - size))[last].max()
        return found

    def label(self) -> str:
        return "Kolmogorov-Smirnov"
