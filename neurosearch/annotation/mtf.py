"""Move-to-front pooling (Cormack, Palmer and Clarke 1998): go on where relevant products come from.

Every list of a system and a query has a priority. The next pair is that of the list with the
highest one; a pair of no worth lowers it. Lists are taken in rounds, one pair of each query, so
that a round can be judged together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Adaptive, Pool, Rounds
from neurosearch.core.bounds import setting


@dataclass(frozen=True)
class MoveToFront(Adaptive):
    """`relevant`: share of the largest gain from which on a list keeps its priority."""

    relevant: float = setting(0.5, above=0, most=1)

    def rounds(self, pool: Pool) -> Rounds:
        systems, queries = len(pool.systems), int(pool.query.max()) + 1
        priority = np.zeros((queries, systems))
        open_pairs = np.ones(len(pool), dtype=bool)
        members = [np.flatnonzero(pool.query == number) for number in range(queries)]
        while open_pairs.any():
            wanted, sources = [], []
            for number, own in enumerate(members):
                left = own[open_pairs[own]]
                if not len(left):
                    continue
                has = (pool.weights[:, left] > 0).any(axis=1)
                ranked = np.where(has, priority[number], -np.inf)
                system = int(ranked.argmax())
                wanted.append(int(left[pool.weights[system, left].argmax()]))
                sources.append((number, system))
            open_pairs[wanted] = False
            gains = yield np.array(wanted)
            for (number, system), gain in zip(sources, gains, strict=False):
                if gain < self.relevant:
                    priority[number, system] -= 1

    def label(self) -> str:
        return "move to front"
