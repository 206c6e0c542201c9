"""The annotation role: which pairs of a pool to judge, and the systems' scores from those labels.

The pool is the union of the systems' first products. A score is DCG, a weighted sum of gains: the
ideal DCG of a query is not known before everything is judged, so differences of DCG are estimated.
Designs that draw pairs with known chances are unbiased and have intervals; those that choose by
what they have seen (`Adaptive`) have neither.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.run import Run

# Plans, each with all pairs so far; the gains come back (U float64, NaN where nobody judged).
Steps = Generator["Design", np.ndarray, None]
Rounds = Generator[np.ndarray, np.ndarray, None]  # pairs to judge next; their gains come back


@dataclass(frozen=True)
class Pool:
    """U pairs that S systems show for Q queries.

    Attributes:
        pairs: `query_id`, `product_id`, by query.
        query: U int64, numbers of queries.
        weights: S×U float64, the discount of a pair's rank in a system's list; 0 where it is not.
        systems: S names.
        queries: Q, those without a product included.
    """

    pairs: pl.DataFrame
    query: np.ndarray
    weights: np.ndarray
    systems: tuple[str, ...]
    queries: int

    @classmethod
    def of(cls, runs: Mapping[str, Run], depth: int = 10) -> Pool:
        """From runs of the same queries.

        Args:
            runs: by name.
            depth: products of a list.

        Returns:
            The pool.

        Raises:
            InputError: one system alone, or runs of other queries.
        """
        if len(runs) < 2:
            raise InputError("task.systems: judging compares systems, so two are needed or more")
        names = {name: run.query_ids for name, run in runs.items()}
        first = next(iter(names))
        for name, ids in names.items():
            if ids != names[first]:
                raise InputError(f"task.systems: {name} and {first} answer other queries")
        parts = [
            run.frame.filter(pl.col("rank") <= depth).select(
                "query_id", "product_id", "rank", system=pl.lit(number)
            )
            for number, run in enumerate(runs.values())
        ]
        whole = pl.concat(parts)
        pairs = whole.select("query_id", "product_id").unique().sort("query_id", "product_id")
        numbered = whole.join(pairs.with_row_index("pair"), on=["query_id", "product_id"])
        weights = np.zeros((len(runs), pairs.height))
        place = numbered["system"].to_numpy(), numbered["pair"].to_numpy()
        weights[place] = 1 / np.log2(1 + numbered["rank"].to_numpy())
        query = pairs["query_id"].rank("dense").to_numpy().astype(np.int64) - 1
        return cls(pairs, query, weights, tuple(runs), len(names[first] or ()))

    def __len__(self) -> int:
        """Pairs."""
        return len(self.query)

    def scores(self, gains: np.ndarray) -> np.ndarray:
        """DCG of the systems, where all pairs are judged.

        Args:
            gains: U float64.

        Returns:
            S float64, means over the queries.
        """
        found: np.ndarray = self.weights @ gains / self.queries
        return found

    @property
    def spread(self) -> np.ndarray:
        """U float64: standard deviation of a pair's weight over the systems."""
        found: np.ndarray = self.weights.std(axis=0)
        return found


@dataclass(frozen=True)
class Design:
    """Attributes:
    chosen: U bool, pairs to judge.
    chances: U float64 of being chosen; NaN where the design knows none.
    by_query: whole queries are drawn, so that a query's pairs are one unit.
    predicted: U float64, gains that the design predicted before it drew its last pairs; or None.
    """

    chosen: np.ndarray
    chances: np.ndarray
    by_query: bool = False
    predicted: np.ndarray | None = None


@dataclass(frozen=True)
class Annotation(Recipe):
    """Base of designs.

    Class attributes:
        unbiased: pairs are drawn with known chances.
    """

    unbiased: ClassVar[bool] = True

    @property
    def is_assisted(self) -> bool:
        """Whether a model of gains helps the estimates."""
        return False

    @abstractmethod
    def steps(self, pool: Pool, budget: int, rng: np.random.Generator) -> Steps:
        """Choose pairs, in one step or in several that depend on the labels so far.

        Args:
            pool: of the systems.
            budget: labels.
            rng: of the draws.

        Returns:
            A generator of plans, which is sent the gains (of 0 to 1) that are known.
        """


@dataclass(frozen=True)
class Sampled(Annotation):
    """Base of designs that draw pairs with chances that are set before anything is judged.

    Attributes:
        assisted: gains are predicted from ranks, and labels correct the prediction.
        least: of a pair's chance, relative to the mean; a chance of 0 could not be corrected.
    """

    assisted: bool = True
    least: float = setting(0.1, above=0, most=1)

    @abstractmethod
    def sizes(self, pool: Pool) -> np.ndarray:
        """How much a pair matters.

        Args:
            pool: of the systems.

        Returns:
            U float64, at least 0; chances are proportional to it.
        """

    @property
    def is_assisted(self) -> bool:
        return self.assisted

    def steps(self, pool: Pool, budget: int, rng: np.random.Generator) -> Steps:
        yield self.design(pool, budget, rng)

    def design(self, pool: Pool, budget: int, rng: np.random.Generator) -> Design:
        """Draw pairs.

        Args:
            pool: of the systems.
            budget: labels.
            rng: of the draw.

        Returns:
            Exactly so many pairs, or all of the pool.
        """
        sizes = np.asarray(self.sizes(pool), dtype=np.float64)
        chances = inclusion(floored(sizes, self.least), budget)
        return Design(systematic(chances, rng), chances)


@dataclass(frozen=True)
class Adaptive(Annotation):
    """Base of designs that choose by the labels so far; what is not judged counts as worthless."""

    unbiased: ClassVar[bool] = False

    @abstractmethod
    def rounds(self, pool: Pool) -> Rounds:
        """Choose pairs, a few at a time.

        Args:
            pool: of the systems.

        Returns:
            A generator of pairs' numbers, which is sent their gains (of 0 to 1).
        """

    def steps(self, pool: Pool, budget: int, rng: np.random.Generator) -> Steps:
        chosen = np.zeros(len(pool), dtype=bool)
        unknown = np.full(len(pool), np.nan)
        rounds = self.rounds(pool)
        wanted = next(rounds)
        while True:
            wanted = wanted[: budget - int(chosen.sum())]
            chosen[wanted] = True
            gains = yield Design(chosen.copy(), unknown)
            if chosen.sum() >= budget:
                return
            try:
                wanted = rounds.send(gains[wanted])
            except StopIteration:
                return


def floored(sizes: np.ndarray, least: float) -> np.ndarray:
    """Sizes that are not too small.

    Args:
        sizes: U float64.
        least: of a size, relative to the mean.

    Returns:
        U float64, above 0.
    """
    found: np.ndarray = np.maximum(sizes, least * max(float(sizes.mean()), 1e-12))
    return found


def inclusion(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Chances that are proportional to sizes, sum to the budget, and are at most 1.

    Args:
        sizes: U float64, above 0.
        budget: labels.

    Returns:
        U float64.
    """
    if budget >= len(sizes):
        return np.ones(len(sizes))
    chances = np.zeros(len(sizes))
    sure = np.zeros(len(sizes), dtype=bool)
    while True:  # what would be above 1 is 1, and the others share what is left
        rest = budget - sure.sum()
        chances[~sure] = rest * sizes[~sure] / sizes[~sure].sum()
        chances[sure] = 1.0
        above = (chances > 1) & ~sure
        if not above.any():
            return chances
        sure |= above


def systematic(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A draw of a fixed size with these chances (Madow 1949), the pairs in random order.

    Args:
        chances: U float64; their sum is the size, rounded.
        rng: of the draw.

    Returns:
        U bool.
    """
    order = rng.permutation(len(chances))
    ends = np.cumsum(chances[order])
    points = rng.random() + np.arange(round(float(chances.sum())))
    chosen = np.zeros(len(chances), dtype=bool)
    chosen[order[np.minimum(np.searchsorted(ends, points, side="right"), len(order) - 1)]] = True
    return chosen
