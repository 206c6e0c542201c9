"""The stopping role: after which look a difference is called significant, with a stated error.

A look is a z value, the difference divided by its standard error, at a share of the planned data. A
rule gives the limit of |z| at each look. Looking often at a limit made for one look (peeking) is
wrong in 14 % of null experiments with 5 looks, and in 25 % with 20.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe

NEVER = -1


@dataclass(frozen=True)
class Stopping(Recipe):
    """`level`: chance to see a difference where there is none, over all looks."""

    level: float = setting(0.05, above=0, below=1)

    @abstractmethod
    def limits(self, shares: np.ndarray) -> np.ndarray:
        """Limits of |z|.

        Args:
            shares: L float64, ascending: of the planned data at each look, the last one 1.

        Returns:
            L float64.
        """

    def stops(self, values: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """The look at which each experiment stops.

        Args:
            values: E×L float64, z at each look.
            shares: L float64, as in `limits`.

        Returns:
            E int64: looks from 0; -1 where no limit is reached.
        """
        beyond = np.abs(values) >= self.limits(shares)
        found: np.ndarray = np.where(beyond.any(axis=1), beyond.argmax(axis=1), NEVER)
        return found
