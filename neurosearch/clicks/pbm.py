"""Position-based model (Richardson et al. 2007; Craswell et al. 2008): P(click) = θ_k a.

Whether a rank is looked at (θ_k) does not depend on anything else. Fitted by expectation and
maximisation; only products of θ and a are identified, so pairs must have stood at several ranks,
and θ is given relative to the first rank where it is compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.clicks.base import ClickLog, ClickModel, Fitted, Parameters


class FittedPBM(Parameters):
    """`parameters["examination"]`: K, the chance that a rank is looked at."""

    def marginal(self, log: ClickLog) -> np.ndarray:
        chances: np.ndarray = self.parameters["examination"] * log.of(self.attraction)
        return chances

    def conditional(self, log: ClickLog) -> np.ndarray:
        return self.marginal(log)


@dataclass(frozen=True)
class PBM(ClickModel):
    def fit(self, log: ClickLog) -> Fitted:
        clicks, shown = log.clicks.astype(np.float64), log.shown.astype(np.float64)
        ranks = log.pairs.shape[1]
        model = FittedPBM(np.full(log.count, 0.5), {"examination": np.full(ranks, 0.5)})
        trials, seen = log.summed(shown), shown.sum(axis=0)
        for _ in range(self.iterations):
            theta, a = model.parameters["examination"], log.of(model.attraction)
            missed = (1 - clicks) * shown / np.maximum(1 - theta * a, 1e-12)
            model.attraction = self.share(log.summed(clicks + missed * (1 - theta) * a), trials)
            looked = (clicks + missed * theta * (1 - a)).sum(axis=0)
            model.parameters["examination"] = self.share(looked, seen)
            model.likelihoods.append(model.likelihood(log))
        return model
