"""Trust bias (Agarwal et al. 2019): P(click) = θ_k (ε⁺_k a + ε⁻_k (1 - a)).

High ranks are clicked on for their place, so a click on what is not relevant has a chance of its
own. Only the chances of a click on a relevant (θ ε⁺) and on another product (θ ε⁻) are identified,
by rank, and by expectation and maximisation: relevance is what is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.clicks.base import ClickLog, ClickModel, Fitted, Parameters


class FittedTrust(Parameters):
    """`parameters`: `relevant` and `other`, K each: chances of a click by rank."""

    def marginal(self, log: ClickLog) -> np.ndarray:
        a = log.of(self.attraction)
        relevant, other = self.parameters["relevant"], self.parameters["other"]
        chances: np.ndarray = np.where(log.shown, relevant * a + other * (1 - a), 0.0)
        return chances

    def conditional(self, log: ClickLog) -> np.ndarray:
        return self.marginal(log)


@dataclass(frozen=True)
class Trust(ClickModel):
    def fit(self, log: ClickLog) -> Fitted:
        clicks, shown = log.clicks.astype(np.float64), log.shown.astype(np.float64)
        ranks = log.pairs.shape[1]
        steps = np.arange(1, ranks + 1.0) ** -0.5
        chances = {"relevant": 0.8 * steps, "other": 0.1 * steps}
        model = FittedTrust(np.full(log.count, 0.5), chances)
        trials = log.summed(shown)
        for _ in range(self.iterations):
            a = log.of(model.attraction)
            relevant, other = model.parameters["relevant"], model.parameters["other"]
            hit = np.where(clicks > 0, relevant, 1 - relevant) * a
            miss = np.where(clicks > 0, other, 1 - other) * (1 - a)
            posterior = shown * hit / np.maximum(hit + miss, 1e-12)
            rest = shown - posterior
            model.attraction = self.share(log.summed(posterior), trials)
            model.parameters = {
                "relevant": self.share((posterior * clicks).sum(axis=0), posterior.sum(axis=0)),
                "other": self.share((rest * clicks).sum(axis=0), rest.sum(axis=0)),
            }
            model.likelihoods.append(model.likelihood(log))
        return model
