"""Pairs on which the systems disagree: chances in proportion to the spread of their discounts.

A pair that all systems show at the same rank moves no difference between them, whatever it is
worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Pool, Sampled


@dataclass(frozen=True)
class Disagreement(Sampled):
    def sizes(self, pool: Pool) -> np.ndarray:
        return pool.spread
