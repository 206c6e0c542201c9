"""Policy-aware propensities (Oosterhuis and de Rijke 2020): Σ c / Σ θ over a pair's impressions.

The propensity of a pair is the mean over the ranks at which the logging system showed it: unbiased
as `ips` is, and a click at a low rank that is one of many is not blown up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.implicit.base import Estimator
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features


@dataclass(frozen=True)
class PolicyAware(Estimator):
    def relevance(self, logged: LoggedClicks, theta: np.ndarray, features: Features) -> np.ndarray:
        log, worth = logged.log, self.worth(logged)
        return self.shrunk(log.summed(worth), log.summed(log.shown * theta))

    def label(self) -> str:
        return "policy-aware IPS"
