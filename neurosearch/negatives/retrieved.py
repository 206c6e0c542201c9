"""Hard negatives from a retriever's top ranks on the train queries, known positives refused.

With BM25 these are lexical look-alikes; with a dense retriever they are mined (ANCE, Xiong et
al. 2020). The positive-aware filter (NV-Retriever, Moreira et al. 2024) refuses candidates
that score too close to the query's positives, which are often unlabelled positives: at most
`max_ratio` of the positives' mean score (TopK-PercPos), or `margin` below it (TopK-MarginPos).
Ratios mean something for cosines only, so BM25 is used without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.negatives.base import (
    ListsArtifact,
    NegativeLists,
    Negatives,
    TrainingContext,
    graded_pairs,
)


@dataclass(frozen=True)
class Retrieved(Negatives):
    """Attributes:
    retriever: whose ranks; ranks `first` to `last` are candidates.
    refuse_share: a judged product worth this share of the largest gain or more is refused.
    max_ratio, margin: the positive-aware filter; None for neither.
    refresh_every: epochs after which the model in training mines anew; 0 for never.
    """

    retriever: Retriever = field(kw_only=True)
    per_query: int = 1
    first: int = 1
    last: int = 50
    refuse_share: float = 0.34
    max_ratio: float | None = setting(None, above=0)
    margin: float | None = setting(None, least=0)
    refresh_every: int = setting(0, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.first <= self.last:
            raise InputError(f"negatives: first={self.first}, last={self.last}: 1 <= first <= last")

    def lists(self, context: TrainingContext) -> list[tuple[int, Artifact[NegativeLists]]]:
        request = RetrievalRequest(context.query, "train", self.last, "catalogue")
        run = self.retriever.run(context.data, request)
        pool = None
        if self.max_ratio is not None or self.margin is not None:
            judged = RetrievalRequest(context.query, "train", self.last, "judged")
            pool = self.retriever.run(context.data, judged)
        limits = (self.first, self.refuse_share, self.max_ratio, self.margin)
        return [(self.per_query, RetrievedLists(context, run, pool, *limits))]

    @property
    def refresh(self) -> int:
        return self.refresh_every

    def label(self) -> str:
        name = "BM25" if self.retriever.label().startswith("BM25") else "mined"
        return name if self.max_ratio is None and self.margin is None else f"{name} positive-aware"


@dataclass(frozen=True)
class RetrievedLists(ListsArtifact):
    run: Artifact[Run]
    pool: Artifact[Run] | None
    first: int
    refuse_share: float
    max_ratio: float | None
    margin: float | None

    def pairs(self, runtime: Runtime) -> tuple[pl.DataFrame, Mapping[str, int]]:
        data = runtime.get(self.context.data)
        graded = graded_pairs(data, data.judgments("train"), self.context.gain)
        candidates = numbered_pairs(
            runtime.get(self.run), data.queries("train").ids, data.catalogue.ids
        ).filter(pl.col("rank") >= self.first)
        positives = None
        if self.pool is not None:
            pool = numbered_pairs(
                runtime.get(self.pool), data.queries("train").ids, data.catalogue.ids
            )
            good = graded.filter(pl.col("share") >= self.context.positive_share)
            positives = pool.join(good, on=["query", "row"], how="semi")
        return select(candidates, graded, positives, self)


def select(
    candidates: pl.DataFrame, graded: pl.DataFrame, positives: pl.DataFrame | None, limits: Any
) -> tuple[pl.DataFrame, Mapping[str, int]]:
    """The candidates that may serve as negatives.

    Args:
        candidates: `query`, `row`, `score`, `rank` of a run.
        graded: judged pairs with their `share` of the gain.
        positives: each query's positives with their scores, for the positive-aware filter (Moreira
            et al. 2024); None without it.
        limits: the thresholds (a `RetrievedLists` or a `Retrieved`).

    Returns:
        Those that are kept, and how many were refused, by reason.
    """
    relevant = graded.filter(pl.col("share") >= limits.refuse_share)
    kept = candidates.join(relevant, on=["query", "row"], how="anti", maintain_order="left")
    refused = {"judged relevant": candidates.height - kept.height}
    if positives is not None:
        reference = positives.group_by("query").agg(pl.col("score").mean().alias("positive"))
        joined = kept.join(reference, on="query", how="left", maintain_order="left")
        bound = pl.lit(float("inf"))
        if limits.max_ratio is not None:
            ratio = pl.when(pl.col("positive") > 0).then(pl.col("positive") * limits.max_ratio)
            bound = pl.min_horizontal(bound, ratio.otherwise(pl.col("positive")))
        if limits.margin is not None:
            bound = pl.min_horizontal(bound, pl.col("positive") - limits.margin)
        clear = joined.filter(pl.col("positive").is_null() | (pl.col("score") < bound))
        refused["too close to the positives"] = kept.height - clear.height
        kept = clear
    return kept.select("query", "row"), refused
