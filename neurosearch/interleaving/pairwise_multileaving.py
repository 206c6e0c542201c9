"""Pairwise preference multileaving (Oosterhuis and de Rijke 2017): clicks as preferences of pairs.

Place k gets a product at random among those that any system ranks k or higher. A clicked product is
preferred to every product above it, and to the next one, that was not clicked. Two products compete
from the rank on at which both can be shown; a preference counts where both are shown from there on,
divided by the chance of that, so clicks at random prefer nobody. It is for the systems that rank
the preferred product higher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.interleaving.base import places
from neurosearch.interleaving.multileaving import Multileaving, check_several


@dataclass(frozen=True)
class PairwiseMultileaving(Multileaving):
    def mixed(self, lists: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        check_several(lists)
        length = lists.shape[1]
        found = np.full((count, length, 2), -1, dtype=np.int64)
        tops = [np.unique(lists[:, : k + 1][lists[:, : k + 1] >= 0]) for k in range(length)]
        for line in range(count):
            shown: list[int] = []
            for place, top in enumerate(tops):
                left = np.setdiff1d(top, shown)
                if not len(left):
                    break
                shown.append(int(rng.choice(left)))
                found[line, place, 0] = shown[-1]
        return found

    def preference(self, lists: np.ndarray, shown: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        length = lists.shape[1]
        union = np.unique(lists[lists >= 0])
        ranks = np.stack([places(products, union) for products in lists])  # M×U, length if absent
        begins = ranks.min(axis=0)  # a product can be shown from this place on
        tops = np.array([(begins <= k).sum() for k in range(length)])
        # The chance that a product which could be shown at a place was not shown there.
        passes = 1 - 1 / np.maximum(tops - np.arange(length), 1)
        total = np.zeros((len(shown), len(lists), len(lists)))
        for line, products in enumerate(shown[:, :, 0]):
            last = int((products >= 0).sum())
            at = np.searchsorted(union, products[:last])
            for winner in np.flatnonzero(clicks[line, :last]).tolist():
                others = [k for k in range(min(winner + 2, last)) if not clicks[line, k]]
                for loser in others:
                    a, b = int(at[winner]), int(at[loser])
                    both = max(begins[a], begins[b])
                    if min(winner, loser) < both:
                        continue
                    chance = float(np.prod(passes[min(begins[a], begins[b]) : both]))
                    ahead = np.sign(ranks[:, b] - ranks[:, a]) / max(chance, 1e-12)
                    total[line] += ahead[None, :] - ahead[:, None]
        return total
