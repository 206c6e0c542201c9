"""The attraction of a click model: what its users would click if they looked.

The model may be right (that of the users who clicked) or wrong; `clicks=trust` knows of trust bias.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neurosearch.clicks.base import ClickLog, ClickModel
from neurosearch.clicks.pbm import PBM
from neurosearch.implicit.base import Estimator
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features


@dataclass(frozen=True)
class ModelAttraction(Estimator):
    """`model`: that is fitted; purchases add nothing to its clicks."""

    model: ClickModel = field(default_factory=lambda: PBM(prior=0.01))

    def examination(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        return np.ones(self.ranks)  # the model has its own

    def relevance(self, logged: LoggedClicks, theta: np.ndarray, features: Features) -> np.ndarray:
        counted = self.worth(logged) > 0
        fitted = self.model.fit(ClickLog(logged.log.pairs, counted, logged.log.count))
        return fitted.attraction

    def label(self) -> str:
        return f"attraction ({self.model.label()})"
