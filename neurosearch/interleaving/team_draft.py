"""Team draft (Radlinski, Kurup and Joachims 2008): captains choose in turns, a coin a round.

Each system adds its best product that is not shown yet; in every round a coin says who goes first.
A click counts for the system whose product it is. Random clicks prefer nobody. It is not always
faithful: with the lists abc and bca, and c alone relevant, both systems show c as often, although
the second one ranks it higher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.interleaving.base import Interleaving, Mixed, check_lists, places, union_of


@dataclass(frozen=True)
class TeamDraft(Interleaving):
    def mixed(
        self, first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator
    ) -> Mixed:
        check_lists(first, second)
        length, union = len(first), union_of(first, second)
        lists = np.full((count, length), -1, dtype=np.int64)
        credits = np.zeros((count, length))
        if not len(union):
            return Mixed(lists, credits)
        ranks = np.stack([places(first, union), places(second, union)])  # 2×U
        used = np.zeros((count, len(union)), dtype=bool)
        rows = np.arange(count)
        starts = rng.integers(2, size=(count, (length + 1) // 2))
        for k in range(length):
            team = starts[:, k // 2] if k % 2 == 0 else 1 - starts[:, k // 2]
            open_ranks = np.where(used, length + 1, ranks[team])
            best = open_ranks.argmin(axis=1)
            has = open_ranks[rows, best] < length
            # A system without further products passes; the other one adds its own.
            other = np.where(used, length + 1, ranks[1 - team])
            fallback = other.argmin(axis=1)
            can = other[rows, fallback] < length
            team = np.where(has, team, 1 - team)
            chosen = np.where(has, best, fallback)
            added = has | can
            lists[added, k] = union[chosen[added]]
            credits[added, k] = 2 * team[added] - 1
            used[rows[added], chosen[added]] = True
        return Mixed(lists, credits)
