"""Mixture sequential probability ratio test (Robbins 1970; Johari et al. 2017): always valid.

One may look at any time, as often as one likes. The likelihood ratio is averaged over effects with
variance τ²: with V the variance of the difference d, L = √(V / (V + τ²)) exp(τ² d² / (2 V (V +
τ²))), and the p-value is the smallest 1/L so far. In z: |z| reaches √(2 (V + τ²)/τ² · ln(√((V +
τ²)/V)/α)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.stopping.base import Stopping


@dataclass(frozen=True)
class MSPRT(Stopping):
    """`spread`: τ², in units of the variance at the planned end; 8 for effects of 2.8 standard
    errors of the planned data, which a single look finds with 80 % power."""

    spread: float = setting(8.0, above=0)

    def limits(self, shares: np.ndarray) -> np.ndarray:
        variance = 1 / shares  # of the difference, in units of that at the end
        ratio = (variance + self.spread) / variance
        inner = np.log(np.sqrt(ratio) / self.level)
        found: np.ndarray = np.sqrt(2 * (variance + self.spread) / self.spread * inner)
        return found

    def label(self) -> str:
        return "mSPRT"
