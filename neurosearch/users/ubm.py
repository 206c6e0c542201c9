"""Users whose looking depends on the last click (user browsing model, Dupret and Piwowarski 2008).

Rank k is looked at with chance (k - k')^-decay, where k' is the rank of the last click above it, or
0: after a click one looks at what stands below it as at the top of a list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.users.base import Users


@dataclass(frozen=True)
class UBMUsers(Users):
    """`decay`: of looking, by the distance from the last click."""

    decay: float = setting(0.7, least=0)

    def clicks(
        self, grades: np.ndarray, rng: np.random.Generator, bias: np.ndarray | None = None
    ) -> np.ndarray:
        attracted = self.attracted(grades, bias)
        clicked = np.zeros(grades.shape, dtype=bool)
        last = np.zeros(len(grades))
        for k in range(grades.shape[1]):
            looked = (k + 1 - last) ** -self.decay
            clicked[:, k] = rng.random(len(grades)) < looked * attracted[:, k]
            last = np.where(clicked[:, k], k + 1, last)
        return clicked

    def expected(self, grades: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        attracted = self.attracted(grades, bias)
        lists, ranks = grades.shape
        last = np.zeros((lists, ranks + 1))  # P(last click at k')
        last[:, 0] = 1
        chances = np.zeros(grades.shape)
        for k in range(ranks):
            looked = (k + 1 - np.arange(k + 1)) ** -self.decay
            clicked = last[:, : k + 1] * looked * attracted[:, k : k + 1]
            chances[:, k] = clicked.sum(axis=1)
            last[:, : k + 1] -= clicked
            last[:, k + 1] = chances[:, k]
        return chances
