"""Optimised interleaving (Radlinski and Craswell 2013): the lists, and how often each is shown.

All lists whose every place holds the next product of one of the two systems are candidates. A
linear program finds how often to show each, so that a user who clicks once, anywhere in the first k
places, prefers nobody for every k (no bias), and as much credit as possible is given (sensitivity).
A click's credit is the difference of 1 / rank in the two lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from neurosearch.interleaving.base import Interleaving, Mixed, check_lists, places, union_of


@dataclass(frozen=True)
class Optimized(Interleaving):
    shares_credit: ClassVar[bool] = True

    def mixed(
        self, first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator
    ) -> Mixed:
        check_lists(first, second)
        lists, credits, chances = _program(tuple(first.tolist()), tuple(second.tolist()))
        chosen = rng.choice(len(lists), size=count, p=chances)
        return Mixed(lists[chosen], credits[chosen])


@lru_cache(maxsize=4096)
def _program(
    first: tuple[int, ...], second: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates, their credits, and how often to show each."""
    from scipy.optimize import linprog

    a, b = np.array(first), np.array(second)
    union = union_of(a, b)
    if not len(union):
        return a[None], np.zeros((1, len(a))), np.ones(1)
    lists = _candidates(a, b)
    gains = 1 / (1.0 + np.stack([places(a, union), places(b, union)]))
    at = np.searchsorted(union, np.maximum(lists, union[0]))
    credits = np.where(lists >= 0, gains[1][at] - gains[0][at], 0.0)
    # A random click among the first k places is worth nothing on average, for every k.
    tops = credits.cumsum(axis=1).T
    worth = np.abs(credits).sum(axis=1)
    total = np.ones((1, len(lists)))
    wanted = np.append(np.zeros(len(tops)), 1.0)
    found = linprog(-worth, A_eq=np.vstack([tops, total]), b_eq=wanted, bounds=(0, 1))
    if found.status != 0:  # rounding: the two lists themselves, in turns, prefer nobody either
        chances = np.zeros(len(lists))
        for one in (a, b):
            chances[_index(lists, one)] += 0.5
        return lists, credits, chances
    chances = np.clip(found.x, 0, None)
    return lists, credits, chances / chances.sum()


def _index(lists: np.ndarray, one: np.ndarray) -> int:
    """The candidate that is most like a list: itself, where the list is full."""
    return int((lists == one).sum(axis=1).argmax())


def _candidates(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All lists in which every place is the next product of a system; C×K, distinct."""
    length = len(first)
    partial: list[tuple[int, ...]] = [()]
    for _ in range(length):
        longer: dict[tuple[int, ...], None] = {}
        for shown in partial:
            for products in (first, second):
                left = [int(p) for p in products if p >= 0 and int(p) not in shown]
                longer[(*shown, left[0] if left else -1)] = None
        # A list that ends because one system has no more, while the other has, is none.
        whole = [one for one in longer if one[-1] >= 0] or list(longer)
        partial = whole
    return np.array(partial, dtype=np.int64).reshape(-1, length)
