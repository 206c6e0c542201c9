"""Dual learning (Ai et al. 2018): a ranker and a propensity model, each weighting the other's loss.

Both are softmax losses over a list. The ranker's clicks are divided by how much less a rank is
looked at than the first one; the propensity model's clicks by how much more relevant a product is
than the first one. Here the ranker has one score for each pair, by full batches of Adam.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features, Propensity

LARGEST = 20.0  # of a weight


@dataclass(frozen=True)
class DLA(Propensity):
    """Attributes:
    steps: of the optimisation.
    rate: of learning.
    """

    steps: int = setting(300, least=1)
    rate: float = setting(0.05, above=0)

    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        log = logged.log
        self.check_moving(log)
        clicked = log.clicks.any(axis=1)  # lists without a click have no loss
        pairs, clicks = log.pairs[clicked], log.clicks[clicked].astype(np.float64)
        shown = pairs >= 0
        place = np.maximum(pairs, 0)
        scores, ranks = np.zeros(log.count), np.zeros(pairs.shape[1])
        ranker, bias = Adam(scores, self.rate), Adam(ranks, self.rate)
        for _ in range(self.steps):
            relevant = softmax(scores[place], shown)
            looked = softmax(np.broadcast_to(ranks, pairs.shape), shown)
            unbiased = clicks * np.minimum(looked[:, :1] / np.maximum(looked, 1e-9), LARGEST)
            by_rank = clicks * np.minimum(relevant[:, :1] / np.maximum(relevant, 1e-9), LARGEST)
            steps = [w.sum(axis=1, keepdims=True) for w in (unbiased, by_rank)]
            pull = np.where(shown, steps[0] * relevant - unbiased, 0.0)
            ranker.step(np.bincount(place.ravel(), pull.ravel(), minlength=log.count))
            bias.step(np.where(shown, steps[1] * looked - by_rank, 0.0).sum(axis=0))
        found: np.ndarray = np.exp(ranks - ranks[0])
        return found


def softmax(logits: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Of each row, over what is shown.

    Args:
        logits: S×K.
        shown: S×K bool.

    Returns:
        S×K float64; 0 where nothing is shown.
    """
    powers = np.where(shown, np.exp(logits - logits.max(axis=1, keepdims=True)), 0.0)
    found: np.ndarray = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-12)
    return found


class Adam:
    """Kingma and Ba (2015), on one array that is changed in place."""

    def __init__(self, values: np.ndarray, rate: float) -> None:
        self._values, self._rate, self._count = values, rate, 0
        self._first, self._second = np.zeros_like(values), np.zeros_like(values)

    def step(self, gradient: np.ndarray) -> None:
        """One step against a gradient.

        Args:
            gradient: of the shape of the values.
        """
        self._count += 1
        self._first += 0.1 * (gradient - self._first)
        self._second += 0.001 * (gradient**2 - self._second)
        mean = self._first / (1 - 0.9**self._count)
        spread = np.sqrt(self._second / (1 - 0.999**self._count))
        self._values -= self._rate * mean / (spread + 1e-8)
