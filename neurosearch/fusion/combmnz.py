"""CombMNZ (Fox & Shaw 1994): CombSUM times the number of runs that found the product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.fusion.combsum import CombSUM


@dataclass(frozen=True)
class CombMNZ(CombSUM):
    times_found: ClassVar[bool] = True
