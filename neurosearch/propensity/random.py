"""Click rates of lists in random order: what a rank shows does not depend on the rank.

The oldest estimator (Joachims et al. 2017 swap two products instead), and the dearest: users see
random lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features, Propensity


@dataclass(frozen=True)
class Random(Propensity):
    """`lists`: in random order that the log must have."""

    lists: int = setting(100, least=1)

    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        log = logged.part(logged.randomised).log if logged.randomised.any() else None
        if log is None or len(log) < self.lists:
            count = 0 if log is None else len(log)
            raise InputError(
                f"propensity=random: {count} lists were shown in random order, and {self.lists} "
                "are needed (logs.shuffled of simulated ones)"
            )
        clicked: np.ndarray = log.clicks.sum(axis=0) / np.maximum(log.shown.sum(axis=0), 1)
        return clicked
