"""Inverse propensity scoring (Joachims et al. 2017): a click counts 1 / θ of its rank.

Unbiased: every impression is worth c / θ, whose mean is the relevance. Its variance grows with
1 / θ, so `clip` is the least θ (0: none), which is biased towards 0 and varies less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.implicit.base import Estimator
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features


@dataclass(frozen=True)
class IPS(Estimator):
    """`clip`: the least propensity."""

    clip: float = setting(0.0, least=0, below=1)

    def relevance(self, logged: LoggedClicks, theta: np.ndarray, features: Features) -> np.ndarray:
        log, worth = logged.log, self.worth(logged)
        weighted = worth / np.maximum(theta, self.clip)
        return self.shrunk(log.summed(weighted), log.summed(log.shown.astype(np.float64)))

    def label(self) -> str:
        return f"IPS, clipped at {self.clip:g}" if self.clip else "IPS"
