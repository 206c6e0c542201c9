"""Self-normalised weights of a query's clicks (after Swaminathan and Joachims 2015).

The weights 1 / θ of a query's clicks are divided by their mean, so that a query whose few clicks
happened at low ranks does not outweigh the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.implicit.base import Estimator
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features


@dataclass(frozen=True)
class SNIPS(Estimator):
    def relevance(self, logged: LoggedClicks, theta: np.ndarray, features: Features) -> np.ndarray:
        log, worth = logged.log, self.worth(logged)
        query = (logged.pairs["query_id"].rank("dense") - 1).to_numpy().astype(np.int64)
        plain, weighted = log.summed(worth), log.summed(worth / theta)
        sums = [np.bincount(query, values) for values in (plain, weighted)]
        mean = (sums[1] / np.maximum(sums[0], 1e-12))[query]  # of a query's weights
        normalised = weighted / np.where(mean > 0, mean, 1.0)
        return self.shrunk(normalised, log.summed(log.shown.astype(np.float64)))
