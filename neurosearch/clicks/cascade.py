"""Cascade model (Craswell et al. 2008): top down until the first click.

P(click at k) = a_k ∏_{i<k} (1 - a_i). A second click can't happen, so logs with several clicks a
list have little likelihood under it. Fitted by counting down to the first click.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.clicks.base import ClickLog, ClickModel, Fitted, Parameters


class FittedCascade(Parameters):
    """It has no parameters but the pairs' attraction."""

    def marginal(self, log: ClickLog) -> np.ndarray:
        a = log.of(self.attraction)
        above = np.cumprod(np.pad(1 - a, ((0, 0), (1, 0)), constant_values=1), axis=1)
        chances: np.ndarray = above[:, :-1] * a
        return chances

    def conditional(self, log: ClickLog) -> np.ndarray:
        chances: np.ndarray = np.where(log.last_click() == 0, log.of(self.attraction), 0.0)
        return chances


@dataclass(frozen=True)
class Cascade(ClickModel):
    def fit(self, log: ClickLog) -> Fitted:
        looked = (log.shown & (log.last_click() == 0)).astype(np.float64)
        hits, trials = log.summed(looked * log.clicks), log.summed(looked)
        model = FittedCascade(self.share(hits, trials), {})
        model.likelihoods.append(model.likelihood(log))
        return model
