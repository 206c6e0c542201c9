"""CombSUM (Fox & Shaw 1994): the sum of normalised scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from neurosearch.errors import InputError
from neurosearch.fusion import base
from neurosearch.types import Queries, Run


@dataclass(frozen=True)
class CombSUM(base.Fusion):
    """`norm`: see `convex`."""

    norm: str = "min-max"
    method: ClassVar[str] = "sum"  # ranx's name

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in base.NORMS:
            raise InputError(f"fusion.norm must be one of {', '.join(base.NORMS)}")

    def fuse(
        self, runs: Mapping[str, Run], queries: Queries, learnt: Mapping[str, Any] | None = None
    ) -> Run:
        base.same_split(runs, queries)
        scaled, norm = base.normalised(runs, self.norm)
        return base.Members(scaled, queries).fuse(norm, self.method)
