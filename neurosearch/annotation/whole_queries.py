"""Whole queries at random, all their pairs judged: the plain baseline that is hard to beat.

Within a query all systems are compared completely, and gains of one query are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Design, Pool, Sampled


@dataclass(frozen=True)
class WholeQueries(Sampled):
    """`assisted`: predicting gains of other queries from ranks."""

    assisted: bool = False

    def sizes(self, pool: Pool) -> np.ndarray:
        return np.ones(len(pool))

    def design(self, pool: Pool, budget: int, rng: np.random.Generator) -> Design:
        sizes = np.bincount(pool.query)
        count = int(np.clip(round(budget / sizes.mean()), 1, len(sizes)))
        drawn = np.zeros(len(sizes), dtype=bool)
        drawn[rng.permutation(len(sizes))[:count]] = True
        chances = np.full(len(pool), count / len(sizes))
        return Design(drawn[pool.query], chances, by_query=True)

    def label(self) -> str:
        return "whole queries"
