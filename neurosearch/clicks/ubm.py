"""User browsing model (Dupret and Piwowarski 2008): P(click) = γ_{k,k'} a.

Whether a rank is looked at depends on it and on the rank of the last click above it (k', 0 for
none). Fitted by expectation and maximisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.clicks.base import ClickLog, ClickModel, Fitted, Parameters


class FittedUBM(Parameters):
    """`parameters["examination"]`: K×K, by rank and by the last click's rank, 0 for none."""

    def marginal(self, log: ClickLog) -> np.ndarray:
        """Summed over where the last click may have been."""
        gamma, a = self.parameters["examination"], log.of(self.attraction)
        lists, ranks = a.shape
        last = np.zeros((lists, ranks + 1))  # P(last click at k')
        last[:, 0] = 1
        chances = np.zeros((lists, ranks))
        for k in range(ranks):
            clicked = last[:, :ranks] * gamma[k] * a[:, k : k + 1]
            chances[:, k] = clicked.sum(axis=1)
            last[:, :ranks] -= clicked
            last[:, k + 1] = chances[:, k]
        return chances

    def conditional(self, log: ClickLog) -> np.ndarray:
        ranks = np.arange(log.pairs.shape[1])
        gamma = self.parameters["examination"][ranks[None], log.last_click()]
        chances: np.ndarray = gamma * log.of(self.attraction)
        return chances


@dataclass(frozen=True)
class UBM(ClickModel):
    def fit(self, log: ClickLog) -> Fitted:
        clicks, shown = log.clicks.astype(np.float64), log.shown.astype(np.float64)
        ranks, last = log.pairs.shape[1], log.last_click()
        place = np.arange(ranks)[None] * ranks + last
        model = FittedUBM(np.full(log.count, 0.5), {"examination": np.full((ranks, ranks), 0.5)})
        trials = log.summed(shown)
        seen = np.bincount(place.ravel(), shown.ravel(), minlength=ranks * ranks)
        for _ in range(self.iterations):
            gamma = model.parameters["examination"].ravel()[place]
            a = log.of(model.attraction)
            missed = (1 - clicks) * shown / np.maximum(1 - gamma * a, 1e-12)
            model.attraction = self.share(log.summed(clicks + missed * (1 - gamma) * a), trials)
            looked = clicks + missed * gamma * (1 - a)
            summed = np.bincount(place.ravel(), looked.ravel(), minlength=ranks * ranks)
            model.parameters["examination"] = self.share(summed, seen).reshape(ranks, ranks)
            model.likelihoods.append(model.likelihood(log))
        return model
