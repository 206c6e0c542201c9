"""Balanced interleaving without its bias (after Bi et al. 2022): weights by place.

The two lists of balanced interleaving are shown equally often. A product is for the system that
ranks it higher. At a place where the one list shows a product for the first system and the other
list one for the second, a click counts for its system; where both lists favour the same system,
or nobody, a random click would prefer somebody, and counts nothing. So clicks at random prefer
nobody at every place. What that costs: clicks on products that both lists show at one place, such
as c of abc and bca, decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.interleaving.balanced import Balanced, BalancedMixed, merged
from neurosearch.interleaving.base import Mixed, places, union_of


@dataclass(frozen=True)
class DebiasedBalanced(Balanced):
    def mixed(
        self, first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator
    ) -> BalancedMixed:
        plain = super().mixed(first, second, count, rng)
        union = union_of(first, second)
        if not len(union):
            return plain
        both = np.stack([merged(first, second), merged(second, first)])
        ranks = [places(products, union) for products in (first, second)]
        at = np.searchsorted(union, np.maximum(both, union[0]))
        favours = np.where(both >= 0, np.sign(ranks[0][at] - ranks[1][at]), 0).astype(np.float64)
        fair = favours[0] == -favours[1]  # 2×K: the lists favour different systems there
        credits = favours * fair
        shown = (plain.lists == both[0]).all(axis=1)
        chosen = np.where(shown[:, None], credits[0], credits[1])
        return BalancedMixed(plain.lists, chosen, plain.ranks)

    def preference(self, mixed: Mixed, clicks: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.sign((mixed.credits * clicks).sum(axis=1))
        return found
