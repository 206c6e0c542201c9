"""Probabilistic interleaving (Hofmann, Whiteson and de Rijke 2011), with marginalised credit.

Every place is filled by a system that a coin chooses, which draws from a softmax over its own ranks
(chance proportional to 1 / rank^tau). A click is shared between the systems by the chance that each
of them would have drawn the product there: the coins themselves do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.interleaving.base import Interleaving, Mixed, check_lists, places, union_of


@dataclass(frozen=True)
class Probabilistic(Interleaving):
    """`tau`: how steep the softmax is."""

    tau: float = setting(3.0, above=0)

    shares_credit: ClassVar[bool] = True

    def mixed(
        self, first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator
    ) -> Mixed:
        check_lists(first, second)
        length, union = len(first), union_of(first, second)
        lists = np.full((count, length), -1, dtype=np.int64)
        credits = np.zeros((count, length))
        ranks = np.stack([places(first, union), places(second, union)]).astype(np.float64)
        # What a system does not rank stands below its list.
        weights = (1 + ranks) ** -self.tau
        left = np.ones((count, len(union)))
        rows = np.arange(count)
        for k in range(min(length, len(union))):
            chances = weights[:, None] * left[None]
            chances /= chances.sum(axis=2, keepdims=True)
            team = rng.integers(2, size=count)
            drawn = chances[team, rows].cumsum(axis=1)
            chosen = (rng.random((count, 1)) * drawn[:, -1:] < drawn).argmax(axis=1)
            a, b = chances[0, rows, chosen], chances[1, rows, chosen]
            lists[:, k] = union[chosen]
            credits[:, k] = (b - a) / (a + b)
            left[rows, chosen] = 0
        return Mixed(lists, credits)
