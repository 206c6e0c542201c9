"""Pocock's rule (1977): the same limit at every look, 2.413 for five looks at 5 %."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.stopping.base import Stopping
from neurosearch.stopping.group_sequential import solved


@dataclass(frozen=True)
class Pocock(Stopping):
    def limits(self, shares: np.ndarray) -> np.ndarray:
        return solved(np.ones_like, shares, self.level)
