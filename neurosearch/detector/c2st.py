"""Classifier two-sample test: how well a linear classifier tells the two sides apart, held out.

Lopez-Paz and Oquab, ICLR 2017. One half of the units trains (ridge regression on the sides), the
AUC of the other half is the statistic, whose sides are dealt anew for the null: the classifier does
not know them. A fixed threshold, such as .55, is passed by chance with small samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.detector.base import VECTORS, Detector, Finding, Sample


@dataclass(frozen=True)
class C2st(Detector):
    """`ridge`: of the regression, times the number of vectors."""

    ridge: float = setting(0.01, above=0)

    reads: ClassVar[str] = VECTORS

    def compare(self, sample: Sample, rng: np.random.Generator) -> Finding:
        """See `Detector.compare`; dealings are of the held-out half alone."""
        chosen = rng.permutation(int(sample.units.max()) + 1) % 2 == 0
        trains = chosen[sample.units]
        vectors = sample.values.astype(np.float64)
        centre = vectors[trains].mean(axis=0)
        inputs = vectors[trains] - centre
        sides = sample.in_window[trains] - sample.in_window[trains].mean()
        gram = inputs.T @ inputs + self.ridge * len(inputs) * np.eye(inputs.shape[1])
        weights = np.linalg.solve(gram, inputs.T @ sides)
        scores = (vectors[~trains] - centre) @ weights
        units = np.unique(sample.units[~trains], return_inverse=True)[1]
        return super().compare(Sample(scores, sample.in_window[~trains], units), rng)

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        """The AUC of held-out scores (`sample.values`: N numbers)."""
        from scipy.stats import rankdata

        ranks = rankdata(sample.values)
        m = members.sum(axis=1)
        n = members.shape[1] - m
        found: np.ndarray = (members @ ranks - m * (m + 1) / 2) / (m * n)
        return found

    def label(self) -> str:
        return "classifier's AUC"
