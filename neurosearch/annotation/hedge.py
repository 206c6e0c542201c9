"""Hedge (Aslam, Pavlu and Savell 2003): trust systems that have been right, and judge what they
show.

Systems have weights. The next pairs are those with the largest weighted discounts, one of each
query; a system loses weight by β^loss for what it shows high and is of no worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Adaptive, Pool, Rounds
from neurosearch.core.bounds import setting


@dataclass(frozen=True)
class Hedge(Adaptive):
    """`beta`: of the weights, for a loss of 1 on average over the queries."""

    beta: float = setting(0.1, above=0, below=1)

    def rounds(self, pool: Pool) -> Rounds:
        queries = int(pool.query.max()) + 1
        weights = np.full(len(pool.systems), 1 / len(pool.systems))
        left = np.ones(len(pool), dtype=bool)
        while left.any():
            score = np.where(left, weights @ pool.weights, -np.inf)
            order = np.lexsort((-score, pool.query))
            first = np.unique(pool.query[order], return_index=True)[1]
            wanted = order[first]
            wanted = wanted[left[wanted]]
            left[wanted] = False
            gains = yield wanted
            part = wanted[: len(gains)]
            losses = pool.weights[:, part] @ (1 - 2 * np.asarray(gains)) / queries
            weights = weights * self.beta**losses
            weights = weights / weights.sum()
