"""Maximum mean discrepancy with a Gaussian kernel, unbiased (Gretton et al., JMLR 2012).

The kernel's width is the median distance of all pairs. Sees differences of any shape; its kernel
matrix grows with the square of the sample, so a side has at most `most` vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.detector.base import VECTORS, Detector, Finding, Sample


@dataclass(frozen=True)
class Mmd(Detector):
    """`most`: vectors of a side; of more, some are drawn."""

    most: int = setting(1_000, least=50)

    reads: ClassVar[str] = VECTORS

    def compare(self, sample: Sample, rng: np.random.Generator) -> Finding:
        return super().compare(thinned(sample, self.most, rng), rng)

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        kernel = gaussian(sample.values)
        np.fill_diagonal(kernel, 0.0)
        inside = members.astype(np.float32)
        with_window = inside @ kernel
        rows, total = kernel.sum(axis=1, dtype=np.float64), kernel.sum(dtype=np.float64)
        within = (with_window * inside).sum(axis=1, dtype=np.float64)
        touching = inside.astype(np.float64) @ rows  # pairs with at least one in the window
        m = members.sum(axis=1).astype(np.float64)
        n = members.shape[1] - m
        across = touching - within
        without = total - within - 2 * across
        found: np.ndarray = within / (m * (m - 1)) + without / (n * (n - 1)) - 2 * across / (m * n)
        return found

    def label(self) -> str:
        return "MMD"


def gaussian(vectors: np.ndarray) -> np.ndarray:
    """exp(-d² / 2w²) of all pairs, w the median distance.

    Args:
        vectors: N×D.

    Returns:
        N×N float32.
    """
    squares = (vectors**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0.0)
    upper = distances[np.triu_indices(len(vectors), 1)]
    width = max(float(np.median(upper)), 1e-12)
    kernel: np.ndarray = np.exp(-distances / (2 * width)).astype(np.float32)
    return kernel


def thinned(sample: Sample, most: int, rng: np.random.Generator) -> Sample:
    """A sample with at most so many vectors a side.

    Args:
        sample: both sides.
        most: of a side.
        rng: of the draws.

    Returns:
        The sample itself where it is small enough.
    """
    sides = [np.flatnonzero(~sample.in_window), np.flatnonzero(sample.in_window)]
    if all(len(side) <= most for side in sides):
        return sample
    kept = [np.sort(rng.permutation(side)[:most]) for side in sides]
    rows = np.concatenate(kept)
    units = np.unique(sample.units[rows], return_inverse=True)[1]
    return Sample(sample.values[rows], sample.in_window[rows], units)
