"""The distance of two samples' mean vectors. Cheap; blind to a change of spread alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.detector.base import VECTORS, Detector, Sample


@dataclass(frozen=True)
class Centroid(Detector):
    reads: ClassVar[str] = VECTORS

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        vectors = sample.values.astype(np.float32)
        inside = members.astype(np.float32) @ vectors
        size = members.sum(axis=1, keepdims=True)
        outside = vectors.sum(axis=0) - inside
        apart = inside / size - outside / (len(vectors) - size)
        found: np.ndarray = np.linalg.norm(apart, axis=1).astype(np.float64)
        return found

    def label(self) -> str:
        return "distance of means"
