"""The propensity role: the chance that a rank is looked at, relative to the first rank.

All but `known` estimate it from a log, and only where it can be told from what the ranks show: the
same products must have stood at several ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurosearch.clicks.base import ClickLog
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.logs.base import LoggedClicks

LEAST = 1e-3  # of a propensity: what is hardly ever looked at teaches nothing

# P×F features of pairs, and P numbers of their queries: computed where an estimator asks for them.
Features = Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Propensity(Recipe):
    """Base of estimators.

    Attributes:
        ranks: K.
        overlap: query-product pairs that must have stood at each rank and elsewhere.
    """

    ranks: int = setting(10, least=2)
    overlap: int = setting(100, least=0)

    def examination(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        """Chances that ranks are looked at.

        Args:
            logged: lists of at most K products.
            features: of the pairs.

        Returns:
            K float64, the first one 1.

        Raises:
            InputError: pairs do not move between ranks, so bias and relevance look alike.
        """
        if not logged.log.clicks.any():
            raise InputError("propensity: the log has no click")
        found = np.asarray(self.estimated(logged, features), dtype=np.float64)
        relative: np.ndarray = np.maximum(found / max(found[0], 1e-12), LEAST)
        return relative

    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        """As `examination`, on any scale.

        Args:
            logged: as there.
            features: as there.

        Returns:
            K float64.
        """
        raise TypeError(f"{type(self).__name__} does not say how it estimates")

    def check_moving(self, log: ClickLog) -> None:
        """Raise InputError where too few pairs stood at a rank and elsewhere.

        Args:
            log: lists of at most K products.
        """
        counts = shown_at(log) > 0
        moving = counts[counts.sum(axis=1) > 1].sum(axis=0)
        short = np.flatnonzero(moving < self.overlap)
        if len(short):
            rank = int(short[0])
            raise InputError(
                f"propensity: {int(moving[rank])} pairs stood at rank {rank + 1} and at another "
                f"one; {self.overlap} are needed (propensity.overlap) to tell bias from relevance"
            )


def shown_at(log: ClickLog, values: np.ndarray | None = None) -> np.ndarray:
    """Sums by pair and rank.

    Args:
        log: lists.
        values: S×K float64; None counts impressions.

    Returns:
        P×K float64.
    """
    ranks, shown = log.pairs.shape[1], log.shown
    place = (log.pairs * ranks + np.arange(ranks))[shown]
    weights = None if values is None else values[shown]
    found = np.bincount(place, weights, minlength=log.count * ranks)
    return found.reshape(log.count, ranks).astype(np.float64)
