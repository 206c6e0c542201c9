"""All pairs of the pool with the same chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Pool, Sampled


@dataclass(frozen=True)
class Uniform(Sampled):
    def sizes(self, pool: Pool) -> np.ndarray:
        return np.ones(len(pool))
