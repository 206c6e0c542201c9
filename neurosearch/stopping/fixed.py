"""A limit made for one look: right at the planned end, wrong where one looks before (peeking)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.stopping.base import Stopping


@dataclass(frozen=True)
class Fixed(Stopping):
    """`peeks`: look before the end as well, which is what it is not made for."""

    peeks: bool = False

    def limits(self, shares: np.ndarray) -> np.ndarray:
        from scipy.stats import norm

        limit = float(norm.isf(self.level / 2))
        early = limit if self.peeks else np.inf
        return np.where(shares < 1, early, limit)

    def label(self) -> str:
        return "peeking at a fixed limit" if self.peeks else "one look"
