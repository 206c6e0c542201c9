"""The next-best last code under capacity: nearest products first, then the next code.

No collision is left with `capacity` 1, as long as no prefix has more products than codes.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.collisions.base import Moving
from neurosearch.core.bounds import setting


@dataclass(frozen=True)
class NextBest(Moving):
    """`capacity`: products that an ID may have."""

    capacity: int = setting(1, least=1)

    @property
    def room(self) -> int:
        return self.capacity
