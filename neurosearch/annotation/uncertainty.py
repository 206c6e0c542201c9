"""Two phases: learn what gains look like, then draw pairs whose gain is uncertain and matters.

The first labels are drawn by disagreement. Gains are then predicted from ranks and from the labels
of the same query, and the rest is drawn with chances in proportion to the spread of a pair's
discounts times the deviation of its gain, √(p (1 - p)), which is the best allocation of a draw
(Neyman 1934). Given the first labels, which count as they are, the second draw is unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import (
    Annotation,
    Design,
    Pool,
    Steps,
    floored,
    inclusion,
    systematic,
)
from neurosearch.annotation.estimate import features_of, ridge
from neurosearch.core.bounds import setting

SHRINKS = 2.0  # labels of average worth that a query's mean begins with
SURE = 0.02  # of a chance: nothing is certain


@dataclass(frozen=True)
class Uncertainty(Annotation):
    """Attributes:
    first: share of the budget that is drawn by disagreement.
    least: of a pair's chance, relative to the mean.
    """

    first: float = setting(0.4, above=0, below=1)
    least: float = setting(0.1, above=0, most=1)

    @property
    def is_assisted(self) -> bool:
        return True

    def steps(self, pool: Pool, budget: int, rng: np.random.Generator) -> Steps:
        count = max(1, round(self.first * min(budget, len(pool))))
        chances = inclusion(floored(pool.spread, self.least), count)
        begun = systematic(chances, rng)
        gains = yield Design(begun, chances)
        predicted = expected(pool, np.where(begun, gains, np.nan), chances)
        chance = np.clip(predicted, SURE, 1 - SURE)
        sizes = floored(pool.spread * np.sqrt(chance * (1 - chance)), self.least)
        rest = np.flatnonzero(~begun)
        left = min(budget, len(pool)) - int(begun.sum())
        chances = np.ones(len(pool))
        chosen = begun.copy()
        if left > 0 and len(rest):
            chances[rest] = inclusion(sizes[rest], left)
            chosen[rest] = systematic(chances[rest], rng)
        elif len(rest):
            return
        yield Design(chosen, chances, predicted=predicted)


def expected(pool: Pool, gains: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Gains from ranks, and from what is known of the same query.

    Args:
        pool: of the systems.
        gains: U float64, NaN where nothing is known.
        chances: U float64, of the labels' being drawn.

    Returns:
        U float64, of 0 to 1.
    """
    known = ~np.isnan(gains)
    values = np.where(known, gains, 0.0)
    queries = int(pool.query.max()) + 1
    sums = np.bincount(pool.query, values, minlength=queries)
    counts = np.bincount(pool.query, known, minlength=queries)
    mean = float(values.sum() / max(known.sum(), 1))
    # A label does not predict itself.
    own_sums, own_counts = sums[pool.query] - values, counts[pool.query] - known
    by_query = (own_sums + SHRINKS * mean) / (own_counts + SHRINKS)
    features = np.hstack([features_of(pool), by_query[:, None]])
    if known.sum() < features.shape[1]:
        return np.full(len(pool), mean)
    solved = ridge(features[known], values[known], 1 / np.maximum(chances[known], 1e-12))
    found: np.ndarray = np.clip(features @ solved, 0.0, 1.0)
    return found
