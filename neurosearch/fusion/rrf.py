"""Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): sum over runs of w / (k + rank).

k = 60 is the untuned default, not an optimum; the weights are ones unless given by member.
ranx has the unweighted form; the weighted one is CombSUM over scores w / (k + rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from neurosearch.errors import InputError
from neurosearch.fusion import base
from neurosearch.types import Queries, Run


@dataclass(frozen=True)
class RRF(base.Fusion):
    """`weights`: by member name, or None for equal ones."""

    k: int = 60
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 0:
            raise InputError(f"fusion.k must be at least 0, not {self.k}")

    def fuse(
        self, runs: Mapping[str, Run], queries: Queries, learnt: Mapping[str, Any] | None = None
    ) -> Run:
        base.same_split(runs, queries)
        if self.weights is None:
            members = base.Members(list(runs.values()), queries)
            return members.fuse(None, "rrf", {"k": self.k})
        weights = base.ordered_weights(self.weights, list(runs))
        scored = [
            Run(run.split, run.frame.with_columns(score=weight / (self.k + pl.col("rank"))))
            for run, weight in zip(runs.values(), weights, strict=True)
        ]
        return base.Members(scored, queries).fuse(None, "sum")

    def label(self) -> str:
        return "RRF" if self.weights is None else "weighted RRF"
