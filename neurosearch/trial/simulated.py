"""Trials on simulated users: the same users see one system, the other one, or both mixed.

Users differ: each asks one or several queries (1 + geometric), and clicks more or less readily (a
beta-distributed propensity). An impression is one list that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.interleaving.base import Interleaving
from neurosearch.trial.effect import Effect, of_one_ratio
from neurosearch.users.base import Users

PROPENSITY = (0.4, 0.9)  # of the beta distribution; readiness is relative to its mean
GOES_ON = 0.7  # chance to ask another query


@dataclass(frozen=True)
class Population:
    """U users with S impressions.

    Attributes:
        user: S int64, ascending, the user of each impression.
        query: S int64, what is asked.
        readiness: U float64, relative propensity to click.
    """

    user: np.ndarray
    query: np.ndarray
    readiness: np.ndarray

    @staticmethod
    def drawn(
        users: int, queries: int, rng: np.random.Generator, alike: bool = False
    ) -> Population:
        """Draw users and what they ask.

        Args:
            users: U.
            queries: that may be asked, with equal chances.
            rng: of all draws.
            alike: all click as readily.

        Returns:
            The population.
        """
        asked = rng.geometric(1 - GOES_ON, size=users)
        user = np.repeat(np.arange(users), asked)
        readiness = np.ones(users)
        if not alike:
            a, b = PROPENSITY
            readiness = rng.beta(a, b, size=users) * (a + b) / a
        return Population(user, rng.integers(queries, size=len(user)), readiness)

    @property
    def users(self) -> int:
        """How many they are."""
        return len(self.readiness)

    @property
    def impressions(self) -> np.ndarray:
        """U float64: of each user."""
        return np.bincount(self.user, minlength=self.users).astype(np.float64)

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Sums by user.

        Args:
            values: S float64.

        Returns:
            U float64.
        """
        return np.bincount(self.user, values, minlength=self.users)


def shown_alone(
    population: Population, grades: np.ndarray, users: Users, rng: np.random.Generator
) -> np.ndarray:
    """Clicks when a system's lists are shown.

    Args:
        population: who asks what.
        grades: Q×K int64, of the system's lists; -1 where there is no product.
        users: how they click.
        rng: of the clicks.

    Returns:
        S×K bool.
    """
    return users.clicks(grades[population.query], rng, population.readiness[population.user])


def shown_mixed(
    population: Population,
    lists: tuple[np.ndarray, np.ndarray],
    truth: np.ndarray,
    method: Interleaving,
    kinds: dict[str, Users],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Preferences when two systems' lists are interleaved; the lists are drawn once for all kinds.

    Args:
        population: who asks what.
        lists: two systems' Q×K product rows, -1 padded.
        truth: Q×N grades by row.
        method: of interleaving.
        kinds: of users, by name.
        rng: of coins and clicks.

    Returns:
        By kind, S float64: above 0 for the second system.
    """
    preferences = {name: np.zeros(len(population.query)) for name in kinds}
    order = np.argsort(population.query, kind="stable")
    bounds = np.searchsorted(population.query[order], np.arange(len(lists[0]) + 1))
    for query in range(len(lists[0])):
        inside = order[bounds[query] : bounds[query + 1]]
        first, second = lists[0][query], lists[1][query]
        if not len(inside) or np.array_equal(first, second):
            continue  # equal lists are ties
        mixed = method.mixed(first, second, len(inside), rng)
        held = truth[query][np.maximum(mixed.lists, 0)].astype(np.int64)
        grades = np.where(mixed.lists >= 0, held, -1)
        readiness = population.readiness[population.user[inside]]
        for name, users in kinds.items():
            clicks = users.clicks(grades, rng, readiness)
            preferences[name][inside] = method.preference(mixed, clicks)
    return preferences


def preference(population: Population, values: np.ndarray) -> Effect:
    """The mean preference, with an error over users.

    Args:
        population: who had them.
        values: S float64.

    Returns:
        The effect: above 0 for the second system.
    """
    return of_one_ratio(population.summed(values), population.impressions)
