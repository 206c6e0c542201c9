"""The clicks role: a model of how a list is looked through, fitted to a log of lists and clicks.

A model gives the chance of a click at each rank, before anything is known of the list (marginal)
and after the clicks above it (conditional). Perplexity (Dupret and Piwowarski 2008) is 2 to the
power of minus the mean log2 of the chance that a model gave to what happened: 1 is perfect, 2 is a
coin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe

LEAST = 1e-6  # of a chance, before logarithms


@dataclass(frozen=True)
class ClickLog:
    """S lists of at most K products.

    Attributes:
        pairs: S×K int64, the number of the query-product pair at each rank; -1 below a list's end.
        clicks: S×K bool.
        count: P, the number of distinct pairs.
    """

    pairs: np.ndarray
    clicks: np.ndarray
    count: int

    def __post_init__(self) -> None:
        if self.pairs.shape != self.clicks.shape or self.pairs.ndim != 2:
            shapes = f"{self.pairs.shape} and {self.clicks.shape}"
            raise InputError(f"a click log has pairs and clicks of one shape, not {shapes}")
        if not len(self.pairs):
            raise InputError("the click log is empty")
        if (self.clicks & (self.pairs < 0)).any():
            row = int(np.flatnonzero((self.clicks & (self.pairs < 0)).any(axis=1))[0])
            raise InputError(f"click log, list {row}: a click below the end of the list")
        if self.pairs.max() >= self.count:
            raise InputError(f"click log: pair {self.pairs.max()} of {self.count}")

    def __len__(self) -> int:
        """Lists."""
        return len(self.pairs)

    @property
    def shown(self) -> np.ndarray:
        """S×K bool: where there is a product."""
        mask: np.ndarray = self.pairs >= 0
        return mask

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Sums by pair.

        Args:
            values: S×K float64.

        Returns:
            P float64.
        """
        shown = self.shown
        return np.bincount(self.pairs[shown], values[shown], minlength=self.count)

    def of(self, by_pair: np.ndarray) -> np.ndarray:
        """A parameter of pairs, at each place of the lists.

        Args:
            by_pair: P float64.

        Returns:
            S×K float64; 0 below a list's end.
        """
        found: np.ndarray = np.where(self.shown, by_pair[np.maximum(self.pairs, 0)], 0.0)
        return found

    def last_click(self) -> np.ndarray:
        """Where the last click above each place is.

        Returns:
            S×K int64: its rank, from 1; 0 for none.
        """
        ranks = np.where(self.clicks, np.arange(1, self.clicks.shape[1] + 1), 0)
        above = np.maximum.accumulate(ranks, axis=1)
        found: np.ndarray = np.pad(above, ((0, 0), (1, 0)))[:, :-1]
        return found


class Fitted(ABC):
    """A model with its parameters.

    Attributes:
        attraction: P float64, the chance that a pair is clicked when it is looked at.
        parameters: of the model by name, such as `examination` by rank.
        likelihoods: of the log, mean log a list, after each round of the fit.
    """

    attraction: np.ndarray
    parameters: Mapping[str, np.ndarray]
    likelihoods: list[float]

    @abstractmethod
    def marginal(self, log: ClickLog) -> np.ndarray:
        """Chances of clicks before any is known.

        Args:
            log: whose lists; its clicks are not looked at.

        Returns:
            S×K float64.
        """

    @abstractmethod
    def conditional(self, log: ClickLog) -> np.ndarray:
        """Chances of clicks, given the clicks above.

        Args:
            log: lists and clicks.

        Returns:
            S×K float64.
        """

    def likelihood(self, log: ClickLog) -> float:
        """Mean log-likelihood of a list.

        Args:
            log: lists and clicks.

        Returns:
            Natural logarithm.
        """
        return float(np.where(log.shown, logs(self.conditional(log), log), 0.0).sum() / len(log))


def logs(chances: np.ndarray, log: ClickLog) -> np.ndarray:
    """Logarithms of the chances of what happened.

    Args:
        chances: S×K of clicks.
        log: what happened.

    Returns:
        S×K float64.
    """
    kept = np.clip(chances, LEAST, 1 - LEAST)
    found: np.ndarray = np.log(np.where(log.clicks, kept, 1 - kept))
    return found


def perplexity(chances: np.ndarray, log: ClickLog) -> np.ndarray:
    """Perplexity at each rank.

    Args:
        chances: S×K of clicks, marginal or conditional.
        log: what happened.

    Returns:
        K float64; NaN at ranks that no list reaches.
    """
    shown = log.shown
    counts = shown.sum(axis=0)
    sums = np.where(shown, logs(chances, log), 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.exp(-sums / counts)
    return found


@dataclass(frozen=True)
class ClickModel(Recipe):
    """Base of click models.

    Attributes:
        iterations: of expectation and maximisation.
        prior: clicks and misses, half of each, that every parameter begins with.
    """

    iterations: int = setting(100, least=1)
    prior: float = setting(1.0, least=0)

    def fit(self, log: ClickLog) -> Fitted:
        """Estimate the parameters.

        Args:
            log: lists and clicks.

        Returns:
            The model with its parameters; the likelihood has risen in every round.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is fitted")

    def share(self, hits: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """A chance, smoothed by the prior; a half where nothing was seen.

        Args:
            hits: of each parameter.
            trials: of each parameter.

        Returns:
            hits / trials, between 0 and 1.
        """
        total = trials + self.prior
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (hits + self.prior / 2) / total
        kept: np.ndarray = np.clip(np.where(total > 0, found, 0.5), LEAST, 1 - LEAST)
        return kept


@dataclass
class Parameters(Fitted):
    """A fitted model that keeps nothing but its parameters."""

    attraction: np.ndarray
    parameters: dict[str, np.ndarray]
    likelihoods: list[float] = field(default_factory=list)
