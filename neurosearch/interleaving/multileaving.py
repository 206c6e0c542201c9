"""Several systems in one list: what its clicks say of every two of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe


@dataclass(frozen=True)
class Multileaving(Recipe):
    """Base of methods that mix M systems."""

    @abstractmethod
    def mixed(self, lists: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Mix lists, several times.

        Args:
            lists: M×K int64, products of each system, best first, -1 padded.
            count: B, lists that are shown.
            rng: of the draws.

        Returns:
            B×K×2 int64: products (-1 where there are no more), and what the method notes of each
            place, such as the system that gave it.
        """

    @abstractmethod
    def preference(self, lists: np.ndarray, shown: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        """What clicks say of every two systems.

        Args:
            lists: M×K, that were mixed.
            shown: B×K×2, of `mixed`.
            clicks: B×K bool.

        Returns:
            B×M×M float64: above 0 where the second system (column) is preferred to the first.
        """


def check_several(lists: np.ndarray) -> None:
    """Raise InputError for lists that can't be mixed.

    Args:
        lists: M×K, -1 padded.
    """
    if lists.ndim != 2 or len(lists) < 2:
        raise InputError(f"multileaving mixes two systems or more, not lists of {lists.shape}")
    for products in lists:
        there = products[products >= 0]
        if len(np.unique(there)) != len(there):
            raise InputError("a list has a product twice")
