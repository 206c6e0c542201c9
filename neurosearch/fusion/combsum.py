"""CombSUM (Fox & Shaw 1994): the sum of normalised scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from neurosearch.core.run import Run
from neurosearch.core.types import Queries
from neurosearch.fusion import base
from neurosearch.fusion.normalization import check, normalised


@dataclass(frozen=True)
class CombSUM(base.Fusion):
    """`norm`: see `normalization`."""

    norm: str = "min-max"
    times_found: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.norm)

    def fuse(
        self, runs: Mapping[str, Run], queries: Queries, learnt: Mapping[str, Any] | None = None
    ) -> Run:
        base.same_split(runs, queries)
        scaled = [normalised(name, run, self.norm) for name, run in runs.items()]
        return base.combine(scaled, queries, self.times_found)

    def label(self) -> str:
        return f"{type(self).__name__} ({self.norm})"
