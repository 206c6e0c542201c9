"""Pearson's chi-squared of two samples of labels; rare labels are one cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.detector.base import LABELS, Detector, Sample


@dataclass(frozen=True)
class Chi2(Detector):
    """`rare`: labels that are expected less often than this on the smaller side are merged."""

    rare: float = setting(5.0, least=0)

    reads: ClassVar[str] = LABELS

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        counts = np.bincount(sample.values).astype(np.float64)
        smaller = min(sample.in_window.mean(), 1 - sample.in_window.mean())
        merged = np.where(counts * smaller < self.rare, 0, np.arange(len(counts)) + 1)
        codes = np.unique(merged[sample.values], return_inverse=True)[1]
        indicators = np.eye(int(codes.max()) + 1, dtype=np.float32)[codes]
        inside = (members.astype(np.float32) @ indicators).astype(np.float64)
        total, size = indicators.sum(axis=0), members.sum(axis=1, keepdims=True)
        expected = total * size / len(codes)
        rest = total * (len(codes) - size) / len(codes)
        found: np.ndarray = ((inside - expected) ** 2 * (1 / expected + 1 / rest)).sum(axis=1)
        return found

    def label(self) -> str:
        return "chi-squared"
