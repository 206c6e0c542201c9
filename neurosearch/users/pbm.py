"""Users who look at rank k with chance k^-decay, whatever stands there (position-based)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.users.base import Users


@dataclass(frozen=True)
class PBMUsers(Users):
    """`decay`: of looking, by rank; .7 is that of the simulated shop's sessions."""

    decay: float = setting(0.7, least=0)

    def looked(self, ranks: int) -> np.ndarray:
        """K float64: the chance that a rank is looked at."""
        found: np.ndarray = np.arange(1, ranks + 1, dtype=np.float64) ** -self.decay
        return found

    def clicks(
        self, grades: np.ndarray, rng: np.random.Generator, bias: np.ndarray | None = None
    ) -> np.ndarray:
        chances = self.looked(grades.shape[1]) * self.attracted(grades, bias)
        drawn: np.ndarray = rng.random(grades.shape) < chances
        return drawn

    def expected(self, grades: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        chances: np.ndarray = self.looked(grades.shape[1]) * self.attracted(grades, bias)
        return chances
