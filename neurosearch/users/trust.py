"""Users who trust the top: they look by position, and click on what stands high for its place.

A click on what is looked at is an error with a chance that falls with the rank (Agarwal et al.
2019): P(click) = θ_k (a + (1 - a) e_k) with e_k = trust / k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.users.base import Users


@dataclass(frozen=True)
class TrustUsers(Users):
    """Attributes:
    decay: of looking, by rank.
    trust: chance to click on what does not attract, at the first rank.
    """

    decay: float = setting(0.7, least=0)
    trust: float = setting(0.3, least=0, most=1)

    def clicks(
        self, grades: np.ndarray, rng: np.random.Generator, bias: np.ndarray | None = None
    ) -> np.ndarray:
        drawn: np.ndarray = rng.random(grades.shape) < self._chances(grades, bias)
        return drawn

    def expected(self, grades: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        return self._chances(grades, bias)

    def _chances(self, grades: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        ranks = np.arange(1, grades.shape[1] + 1.0)
        attracted = self.attracted(grades, bias)
        erring = (1 - attracted) * self.trust / ranks
        found: np.ndarray = np.where(grades >= 0, ranks**-self.decay * (attracted + erring), 0.0)
        return found
