"""Fréchet distance of two Gaussians: |m - n|² + tr(S + T - 2 (S T)^½).

Known as FID (Heusel et al. 2017). Biased where a side is small: both have as many vectors, and the
permutations have the same bias. Vectors are reduced to their first principal components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.detector.base import VECTORS, Detector, Finding, Sample
from neurosearch.detector.mmd import thinned


@dataclass(frozen=True)
class Frechet(Detector):
    """`components`: kept of the vectors."""

    permutations: int = setting(199, least=19)
    components: int = setting(32, least=2)

    reads: ClassVar[str] = VECTORS

    def compare(self, sample: Sample, rng: np.random.Generator) -> Finding:
        smaller = min(int(sample.in_window.sum()), int((~sample.in_window).sum()))
        return super().compare(thinned(sample, smaller, rng), rng)

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        vectors = sample.values.astype(np.float64)
        centred = vectors - vectors.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        kept = centred @ axes[: self.components].T
        return np.array([distance(kept[~inside], kept[inside]) for inside in members])

    def label(self) -> str:
        return "Fréchet distance"


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """The Fréchet distance of two samples.

    Args:
        first, second: N×D and M×D float64.

    Returns:
        At least 0, but for rounding.
    """
    apart = first.mean(axis=0) - second.mean(axis=0)
    covariances = [np.cov(side, rowvar=False) for side in (first, second)]
    values, axes = np.linalg.eigh(covariances[0])
    root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    # The eigenvalues of S T are those of S^½ T S^½, which is symmetric.
    mixed = np.linalg.eigvalsh(root @ covariances[1] @ root)
    spread = np.trace(covariances[0]) + np.trace(covariances[1])
    return float(apart @ apart + spread - 2 * np.sqrt(np.maximum(mixed, 0)).sum())
