"""Position bias that is known, or taken from elsewhere: rank^-decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features, Propensity


@dataclass(frozen=True)
class Known(Propensity):
    """`decay`: 0 for no bias."""

    decay: float = setting(0.7, least=0)

    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        found: np.ndarray = np.arange(1, logged.log.pairs.shape[1] + 1.0) ** -self.decay
        return found
