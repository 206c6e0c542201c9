"""Click rates as they are: what stands high is seen more often, and so it is clicked more often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.implicit.base import Estimator
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features


@dataclass(frozen=True)
class Naive(Estimator):
    def examination(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        return np.ones(self.ranks)

    def relevance(self, logged: LoggedClicks, theta: np.ndarray, features: Features) -> np.ndarray:
        shown = logged.log.shown.astype(np.float64)
        return self.shrunk(logged.log.summed(self.worth(logged)), logged.log.summed(shown))

    def label(self) -> str:
        return "naive clicks"
