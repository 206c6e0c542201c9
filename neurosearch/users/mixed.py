"""Half of the users look by position, half read from the top and leave."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.users.base import Users
from neurosearch.users.cascade import CascadeUsers
from neurosearch.users.pbm import PBMUsers


@dataclass(frozen=True)
class MixedUsers(Users):
    """Attributes:
    first, second: the two kinds.
    share: of the first kind.
    """

    first: Users = field(default_factory=PBMUsers)
    second: Users = field(default_factory=CascadeUsers)
    share: float = setting(0.5, least=0, most=1)

    def clicks(
        self, grades: np.ndarray, rng: np.random.Generator, bias: np.ndarray | None = None
    ) -> np.ndarray:
        kind = rng.random((len(grades), 1)) < self.share
        first = self.first.clicks(grades, rng, bias)
        second = self.second.clicks(grades, rng, bias)
        drawn: np.ndarray = np.where(kind, first, second)
        return drawn

    def expected(self, grades: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        first, second = (kind.expected(grades, bias) for kind in (self.first, self.second))
        chances: np.ndarray = self.share * first + (1 - self.share) * second
        return chances
