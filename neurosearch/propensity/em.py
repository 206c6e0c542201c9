"""Expectation and maximisation of the position-based model, a free parameter for every pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.clicks.pbm import PBM
from neurosearch.core.bounds import setting
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features, Propensity


@dataclass(frozen=True)
class EM(Propensity):
    """Attributes:
    iterations: rounds.
    prior: clicks and misses that every parameter begins with. With 1, pairs that are seen at low
        ranks alone are pulled to a half, and their ranks seem to be looked at less.
    """

    iterations: int = setting(100, least=1)
    prior: float = setting(0.01, least=0)

    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        self.check_moving(logged.log)
        fitted = PBM(self.iterations, self.prior).fit(logged.log)
        return fitted.parameters["examination"]
