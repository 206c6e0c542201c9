"""Users who read from the top and leave: after a click by its grade, else with a small chance.

A dynamic Bayesian network (Chapelle and Zhang 2009) with parameters by grade. Such users give a
better list no more clicks, since they leave when they have found something: the first click comes
earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.users.base import Users


@dataclass(frozen=True)
class CascadeUsers(Users):
    """Attributes:
    leaving: chance to leave after a click, by grade.
    tired: chance to leave after what was not clicked.
    """

    leaving: tuple[float, ...] = (0.0, 0.1, 0.3, 0.9)
    tired: float = setting(0.1, least=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.leaving) != len(self.attraction):
            raise self.error("leaving", f"must have {len(self.attraction)} chances, one a grade")

    def _left(self, grades: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.append(np.array(self.leaving), 0.0)[grades]
        return found

    def clicks(
        self, grades: np.ndarray, rng: np.random.Generator, bias: np.ndarray | None = None
    ) -> np.ndarray:
        attracted, left = self.attracted(grades, bias), self._left(grades)
        clicked = np.zeros(grades.shape, dtype=bool)
        reading = np.ones(len(grades), dtype=bool)
        for k in range(grades.shape[1]):
            clicked[:, k] = reading & (rng.random(len(grades)) < attracted[:, k])
            goes = np.where(clicked[:, k], left[:, k], self.tired)
            reading &= rng.random(len(grades)) >= goes
        return clicked

    def expected(self, grades: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        attracted, left = self.attracted(grades, bias), self._left(grades)
        chances = np.zeros(grades.shape)
        reading = np.ones(len(grades))
        for k in range(grades.shape[1]):
            chances[:, k] = reading * attracted[:, k]
            stays = attracted[:, k] * (1 - left[:, k]) + (1 - attracted[:, k]) * (1 - self.tired)
            reading = reading * stays
        return chances
