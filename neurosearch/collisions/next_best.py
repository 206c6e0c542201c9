"""The next-best last code under capacity: nearest first, whoever finds a code full moves on.

No collision is left with `capacity` 1, as long as no prefix has more products than codes.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.collisions.base import Moving
from neurosearch.core.errors import InputError


@dataclass(frozen=True)
class NextBest(Moving):
    """`capacity`: products that an ID may have."""

    capacity: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.capacity < 1:
            raise InputError(
                f"tokenizer.collisions.capacity must be at least 1, not {self.capacity}"
            )

    @property
    def room(self) -> int:
        return self.capacity
