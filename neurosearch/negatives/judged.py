"""Judged products as negatives: people said that they are not what was asked for.

For contrastive losses keep `max_share` low (irrelevant, complements); substitutes in between
are ambiguous. For graded losses take every label (`max_share: 1`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.negatives.base import (
    ListsArtifact,
    NegativeLists,
    Negatives,
    TrainingContext,
    graded_pairs,
)


@dataclass(frozen=True)
class Judged(Negatives):
    """`max_share`: labels worth at most this share of the largest gain are negatives."""

    per_query: int = 1
    max_share: float = 0.34

    def lists(self, context: TrainingContext) -> list[tuple[int, Artifact[NegativeLists]]]:
        return [(self.per_query, JudgedLists(context, self.max_share))]

    def label(self) -> str:
        return "judged"


@dataclass(frozen=True)
class JudgedLists(ListsArtifact):
    max_share: float

    def pairs(self, runtime: Runtime) -> tuple[pl.DataFrame, Mapping[str, int]]:
        data = runtime.get(self.context.data)
        graded = graded_pairs(data, data.judgments("train"), self.context.gain)
        kept = graded.filter(pl.col("share") <= self.max_share)
        return kept, {"worth too much": graded.height - kept.height}
