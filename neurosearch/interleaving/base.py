"""The interleaving role: lists of two systems become one, and clicks a preference.

A preference above 0 is for the second system. Methods are judged by what they must be (Hofmann et
al. 2013): unbiased (clicks at random prefer nobody), faithful (the better list wins), sensitive
(few impressions decide).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe

FIRST, SECOND, NOBODY = 0, 1, -1


@dataclass(frozen=True)
class Mixed:
    """B lists of K products.

    Attributes:
        lists: B×K int64, products; -1 where both systems had no more.
        credits: B×K float64, what a click is worth: above 0 for the second system.
    """

    lists: np.ndarray
    credits: np.ndarray


@dataclass(frozen=True)
class Interleaving(Recipe):
    """Base of interleaving methods.

    Class attributes:
        shares_credit: a click is worth a number, and no bias is promised for its sign.
    """

    shares_credit: ClassVar[bool] = False

    @abstractmethod
    def mixed(
        self, first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator
    ) -> Mixed:
        """Mix two lists, several times.

        Args:
            first: K int64, products of the first system, best first, -1 padded.
            second: K int64, of the second one.
            count: B, lists that are shown.
            rng: of the coins.

        Returns:
            B lists and the credits of their places.
        """

    def preference(self, mixed: Mixed, clicks: np.ndarray) -> np.ndarray:
        """Which system each list's clicks prefer.

        Args:
            mixed: that was shown.
            clicks: B×K bool.

        Returns:
            B float64: -1, 0 or 1; of methods with shares of credit, their sum.
        """
        total: np.ndarray = np.round((mixed.credits * clicks).sum(axis=1), 9)
        return total if self.shares_credit else np.sign(total)


def check_lists(first: np.ndarray, second: np.ndarray) -> None:
    """Raise InputError for lists that can't be mixed.

    Args:
        first: K products, -1 padded.
        second: as first.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"lists of one length are mixed, not {first.shape} and {second.shape}")
    for products in (first, second):
        there = products[products >= 0]
        if len(np.unique(there)) != len(there):
            raise InputError("a list has a product twice")


def places(products: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Ranks of products in a list.

    Args:
        products: K int64, -1 padded.
        union: U int64, ascending.

    Returns:
        U int64: ranks from 0; K for what is not in the list.
    """
    found = np.full(len(union), len(products), dtype=np.int64)
    there = np.flatnonzero(products >= 0)
    found[np.searchsorted(union, products[there])] = there
    return found


def union_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Products of both lists.

    Args:
        first: K products, -1 padded.
        second: as first.

    Returns:
        U int64, ascending.
    """
    both = np.concatenate([first, second])
    return np.unique(both[both >= 0])
