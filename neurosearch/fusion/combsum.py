"""CombSUM (Fox & Shaw 1994): the sum of normalised scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from neurosearch.core.run import Run
from neurosearch.fusion import base
from neurosearch.fusion.normalization import check, normalised


@dataclass(frozen=True)
class CombSUM(base.Fusion):
    """`norm`: see `normalization`."""

    norm: str = "min-max"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.norm)

    def shares(
        self, runs: Mapping[str, Run], learnt: Mapping[str, Any] | None = None
    ) -> dict[str, pl.DataFrame]:
        return {name: normalised(name, run, self.norm) for name, run in runs.items()}

    def label(self) -> str:
        return f"{type(self).__name__} ({self.norm})"
