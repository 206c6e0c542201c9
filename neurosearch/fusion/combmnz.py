"""CombMNZ (Fox & Shaw 1994): CombSUM times the number of runs that found the product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from neurosearch.core.run import Run
from neurosearch.fusion.combsum import CombSUM


@dataclass(frozen=True)
class CombMNZ(CombSUM):
    def shares(
        self, runs: Mapping[str, Run], learnt: Mapping[str, Any] | None = None
    ) -> dict[str, pl.DataFrame]:
        once = super().shares(runs, learnt)
        keys = ["query_id", "product_id"]
        found = pl.concat([frame.select(keys) for frame in once.values()])
        times = found.group_by(keys).len("times")
        return {
            name: frame.join(times, on=keys, maintain_order="left").with_columns(
                score=pl.col("score") * pl.col("times")
            )
            for name, frame in once.items()
        }
