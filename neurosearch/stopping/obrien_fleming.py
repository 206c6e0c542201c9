"""O'Brien and Fleming's rule (1979): limits fall with the root of the data, 2.040 √(5/k) for five.

Early looks stop only for large differences, so the last one costs hardly more than a single look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.stopping.base import Stopping
from neurosearch.stopping.group_sequential import solved


@dataclass(frozen=True)
class OBrienFleming(Stopping):
    def limits(self, shares: np.ndarray) -> np.ndarray:
        return solved(lambda x: x**-0.5, shares, self.level)

    def label(self) -> str:
        return "O'Brien-Fleming"
