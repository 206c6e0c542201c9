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
    """`iterations`: rounds."""

    iterations: int = setting(100, least=1)

    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        self.check_moving(logged.log)
        fitted = PBM(iterations=self.iterations).fit(logged.log)
        return fitted.parameters["examination"]
