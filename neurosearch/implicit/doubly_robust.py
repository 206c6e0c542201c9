"""Doubly robust estimation (after Oosterhuis 2022): a prediction, corrected by the clicks.

r̂ + Σ (c - θ r̂) / Σ θ. The prediction r̂ is a logistic regression on words, fitted to the other
queries' clicks. For a pair that was seen, the correction takes all of it back, and the estimate is
that of `policy_aware` (with a `prior` it is between the two); for candidates that nobody saw, r̂ is
what is left (`unseen`): right if the prediction is. By default they stay out of the training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.implicit.base import FOLDS, Estimator
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features
from neurosearch.propensity.logistic import Logistic


@dataclass(frozen=True)
class DoublyRobust(Estimator):
    """Attributes:
    prior: pulls towards the prediction of the pair.
    unseen: judged products that no list showed get their prediction as a label.
    """

    unseen: bool = False

    @property
    def predicts_unseen(self) -> bool:
        return self.unseen

    def relevance(self, logged: LoggedClicks, theta: np.ndarray, features: Features) -> np.ndarray:
        log, worth = logged.log, self.worth(logged)
        inputs, query = features()
        hits, trials = log.summed(worth), log.summed(log.shown * theta)
        top = max(1.0, float(worth.max()))  # of one impression
        model = Logistic(inputs)
        predicted = np.zeros(log.count)
        for fold in range(FOLDS):
            mine = query % FOLDS == fold
            model.fit(np.minimum(hits / top, trials), trials, ~mine)
            predicted[mine] = model.chances()[mine] * top
        found: np.ndarray = predicted + (hits - trials * predicted) / np.maximum(
            trials + self.prior, 1e-12
        )
        return found

    def label(self) -> str:
        return "doubly robust, unseen predicted" if self.unseen else "doubly robust"
