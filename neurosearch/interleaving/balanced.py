"""Balanced interleaving (Joachims 2002): the systems take turns, one coin a list.

A system's next product is added unless it is shown already. Clicks are compared within the shortest
top of both lists that covers the lowest click. It is biased: with the lists abc and bca, clicks at
random prefer the second system, by a third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.interleaving.base import Interleaving, Mixed, check_lists, places, union_of


@dataclass(frozen=True)
class BalancedMixed(Mixed):
    """`ranks`: 2×B×K, ranks of the shown products in both lists; K where they are not in one."""

    ranks: np.ndarray


@dataclass(frozen=True)
class Balanced(Interleaving):
    def mixed(
        self, first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator
    ) -> BalancedMixed:
        check_lists(first, second)
        length, union = len(first), union_of(first, second)
        starts = rng.integers(2, size=count)
        both = np.stack([merged(first, second), merged(second, first)])
        lists = both[starts]
        ranks = np.full((2, count, length), length, dtype=np.int64)
        if len(union):
            at = np.searchsorted(union, np.maximum(lists, union[0]))
            for side, products in enumerate((first, second)):
                ranks[side] = np.where(lists >= 0, places(products, union)[at], length)
        return BalancedMixed(lists, np.zeros((count, length)), ranks)

    def preference(self, mixed: Mixed, clicks: np.ndarray) -> np.ndarray:
        assert isinstance(mixed, BalancedMixed)
        length = clicks.shape[1]
        any_click = clicks.any(axis=1)
        lowest = length - 1 - clicks[:, ::-1].argmax(axis=1)
        rows = np.arange(len(clicks))
        top = mixed.ranks[:, rows, lowest].min(axis=0)  # the shortest that covers it
        inside = clicks[None] & (mixed.ranks <= top[None, :, None])
        first, second = inside.sum(axis=2)
        found: np.ndarray = np.where(any_click, np.sign(second - first), 0).astype(np.float64)
        return found


def merged(leader: np.ndarray, follower: np.ndarray) -> np.ndarray:
    """The list in which `leader` goes first; its pointer is never behind the other one's.

    Args:
        leader: K products, -1 padded.
        follower: K products of the other system.

    Returns:
        K int64, -1 padded.
    """
    length = len(leader)
    shown: list[int] = []
    a = b = 0
    while len(shown) < length and (a < length or b < length):
        if (a <= b and a < length) or b >= length:
            product, a = int(leader[a]), a + 1
        else:
            product, b = int(follower[b]), b + 1
        if product >= 0 and product not in shown:
            shown.append(product)
    return np.array(shown + [-1] * (length - len(shown)), dtype=np.int64)
