"""Dynamic Bayesian network (Chapelle and Zhang 2009): a click may satisfy, and then one stops.

Top down: a product that is looked at is clicked with chance a; a click satisfies with chance s, and
ends the list; otherwise one goes on with chance γ. Fitted by expectation and maximisation over the
chain of looking (forward and backward); with `going_on=1` (the simplified model) all hidden states
above the last click are known, and counting is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.clicks.base import LEAST, ClickLog, ClickModel, Fitted, Parameters
from neurosearch.core.bounds import setting


class FittedDBN(Parameters):
    """`parameters["satisfaction"]`: P; `parameters["going_on"]`: one number."""

    def _parts(self, log: ClickLog) -> tuple[np.ndarray, np.ndarray, float]:
        satisfied = log.of(self.parameters["satisfaction"])
        return log.of(self.attraction), satisfied, float(self.parameters["going_on"][0])

    def marginal(self, log: ClickLog) -> np.ndarray:
        a, s, gamma = self._parts(log)
        looked = np.ones(len(log))
        chances = np.zeros(a.shape)
        for k in range(a.shape[1]):
            chances[:, k] = looked * a[:, k]
            looked = looked * gamma * (1 - a[:, k] * s[:, k])
        return chances

    def conditional(self, log: ClickLog) -> np.ndarray:
        a, _, _ = self._parts(log)
        chances: np.ndarray = self.looked_at(log) * a
        return chances

    def looked_at(self, log: ClickLog) -> np.ndarray:
        """Chances that a rank is looked at, given the clicks above it.

        Args:
            log: lists and clicks.

        Returns:
            S×K float64.
        """
        a, s, gamma = self._parts(log)
        looked = np.ones(a.shape)
        for k in range(1, a.shape[1]):
            before = looked[:, k - 1]
            missed = before * (1 - a[:, k - 1]) / np.maximum(1 - before * a[:, k - 1], 1e-12)
            clicked = log.clicks[:, k - 1]
            looked[:, k] = gamma * np.where(clicked, 1 - s[:, k - 1], missed)
        return looked


@dataclass(frozen=True)
class DBN(ClickModel):
    """`going_on`: the chance to go on after what did not satisfy; None: estimated."""

    going_on: float | None = setting(None, above=0, most=1)

    def fit(self, log: ClickLog) -> Fitted:
        given = 0.5 if self.going_on is None else self.going_on
        halves = np.full(log.count, 0.5)
        model = FittedDBN(halves, {"satisfaction": halves.copy(), "going_on": np.array([given])})
        for _ in range(self.iterations):
            self._round(model, log)
            model.likelihoods.append(model.likelihood(log))
        return model

    def _round(self, model: FittedDBN, log: ClickLog) -> None:
        """One expectation and maximisation.

        `later[:, k]` is the chance of the clicks from rank k on, given that k is looked at; when it
        is not, they are 1 where there is no click from k on, else 0.
        """
        a, s, gamma = model._parts(log)
        clicks, shown = log.clicks, log.shown
        lists, ranks = a.shape
        none_below = ~np.flip(np.maximum.accumulate(np.flip(clicks, 1), axis=1), 1)
        quiet = np.pad(none_below, ((0, 0), (0, 1)), constant_values=True).astype(np.float64)
        later = np.ones((lists, ranks + 1))
        for k in range(ranks - 1, -1, -1):
            on = gamma * later[:, k + 1] + (1 - gamma) * quiet[:, k + 1]
            clicked = a[:, k] * (s[:, k] * quiet[:, k + 1] + (1 - s[:, k]) * on)
            later[:, k] = np.where(clicks[:, k], clicked, (1 - a[:, k]) * on)
            later[:, k] = np.where(shown[:, k], later[:, k], 1.0)
        hits, satisfied = np.zeros(a.shape), np.zeros(a.shape)
        went, stayed = 0.0, 0.0
        looked = np.ones(lists)  # P(rank k is looked at | all clicks)
        trials = np.zeros(a.shape)
        for k in range(ranks):
            here = shown[:, k] * looked
            trials[:, k], hits[:, k] = here, here * clicks[:, k]
            on = gamma * later[:, k + 1]
            off = (1 - gamma) * quiet[:, k + 1]
            unsatisfied = (1 - s[:, k]) * (on + off)
            done = s[:, k] * quiet[:, k + 1]
            p_done = np.where(clicks[:, k], done / np.maximum(done + unsatisfied, LEAST), 0.0)
            satisfied[:, k] = here * clicks[:, k] * p_done
            p_on = on / np.maximum(on + off, 1e-12)
            below = shown[:, k + 1] if k + 1 < ranks else np.zeros(lists, dtype=bool)
            free = here * (1 - p_done) * below
            went, stayed = went + float((free * p_on).sum()), stayed + float(free.sum())
            looked = here * (1 - p_done) * p_on
        model.attraction = self.share(log.summed(hits), log.summed(trials))
        clicked_at = log.summed(hits)
        model.parameters["satisfaction"] = self.share(log.summed(satisfied), clicked_at)
        if self.going_on is None:
            model.parameters["going_on"] = self.share(np.array([went]), np.array([stayed]))
