"""Regression EM (Wang et al. 2018): relevance is a function of features, not a free parameter.

Pairs that are seen once still say something, since their features are those of others. The
expectation is that of the position-based model; the maximisation fits a logistic regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features, Propensity
from neurosearch.propensity.logistic import Logistic


@dataclass(frozen=True)
class RegressionEM(Propensity):
    """`iterations`: rounds."""

    iterations: int = setting(30, least=1)

    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        log = logged.log
        clicks, shown = log.clicks.astype(np.float64), log.shown.astype(np.float64)
        trials, seen = log.summed(shown), np.maximum(shown.sum(axis=0), 1)
        model = Logistic(features()[0])
        theta = np.full(clicks.shape[1], 0.5)
        relevant = np.full(log.count, 0.5)
        for _ in range(self.iterations):
            a = log.of(relevant)
            missed = (1 - clicks) * shown / np.maximum(1 - theta * a, 1e-12)
            model.fit(log.summed(clicks + missed * (1 - theta) * a), trials)
            theta = (clicks + missed * theta * (1 - a)).sum(axis=0) / seen
            relevant = model.chances()
        return theta
