"""The next-best last code under capacity: nearest first, whoever finds a code full moves on.

No collision is left with `capacity` 1, as long as no prefix has more products than codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.collisions.base import Collisions, Costs, crowded, moved, place, squeezed_in
from neurosearch.errors import InputError
from neurosearch.types import SemanticIds


@dataclass(frozen=True)
class NextBest(Collisions):
    """`capacity`: products that an ID may have."""

    capacity: int = 1
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.capacity < 1:
            raise InputError(
                f"tokenizer.collisions.capacity must be at least 1, not {self.capacity}"
            )

    @property
    def promises(self) -> bool:
        return self.capacity == 1

    def resolve(self, ids: SemanticIds, costs: Costs | None) -> SemanticIds:
        assert costs is not None
        rows = crowded(ids)
        if not len(rows):
            return ids
        prefix = ids.keys(ids.semantic - 1)[rows]
        return moved(ids, rows, place(prefix, costs(rows), self.capacity))

    def admit(self, ids: SemanticIds, codes: np.ndarray, costs: np.ndarray | None) -> np.ndarray:
        assert costs is not None
        return squeezed_in(ids, codes, costs, self.capacity)
