"""Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): sum over runs of w / (k + rank).

k = 60 is the untuned default, not an optimum; the weights are ones unless given by member.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.run import Run
from neurosearch.fusion import base


@dataclass(frozen=True)
class RRF(base.Fusion):
    """`weights`: by member name, or None for equal ones."""

    k: int = setting(60, least=0)
    weights: Mapping[str, float] | None = None

    def shares(
        self, runs: Mapping[str, Run], learnt: Mapping[str, Any] | None = None
    ) -> dict[str, pl.DataFrame]:
        names = list(runs)
        weights = [1.0] * len(names)
        if self.weights is not None:
            weights = base.ordered_weights(self.weights, names)
        return {
            name: runs[name].frame.with_columns(score=weight / (self.k + pl.col("rank")))
            for name, weight in zip(names, weights, strict=True)
        }

    def label(self) -> str:
        return "RRF" if self.weights is None else "weighted RRF"
