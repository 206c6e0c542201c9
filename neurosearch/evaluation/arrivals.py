"""Protocol `arrivals`: as `catalogue`, with new and older products apart (`data=changing`).

Recall@10 and Recall@100 once of the relevant products that arrived after the models were trained,
and once of those that were there before; queries without such a relevant product don't count.
`new@10` is the share of new products among the first ten, whatever they are worth: next to the
share of the catalogue that is new it says whether a system prefers what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Judgments
from neurosearch.evaluation.base import PerQueryMetrics
from neurosearch.evaluation.catalogue import CatalogueProtocol

METRICS = (
    *("Recall@10 new", "Recall@10 old", "Recall@100 new", "Recall@100 old"),
    "new@10",
)


@dataclass(frozen=True)
class ArrivalsProtocol(CatalogueProtocol):
    """The fields: see `Evaluation`."""

    @property
    def protocol(self) -> str:
        return "arrivals"

    def metrics(
        self, retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor
    ) -> Artifact[pl.DataFrame]:
        earlier = view.earlier(data)
        if earlier is None:
            raise InputError("evaluation=arrivals: the data has no new products; see data=changing")
        return ArrivalMetrics(*self.measured(retriever, data, query), view.products(earlier))


@dataclass(frozen=True)
class ArrivalMetrics(PerQueryMetrics):
    """As `PerQueryMetrics`, with the columns of this protocol."""

    earlier: Artifact[Dataset]

    def with_own(self, frame: pl.DataFrame, judgments: Judgments, runtime: Runtime) -> pl.DataFrame:
        older = runtime.get(self.earlier).catalogue.ids
        graded = self.gain.graded(judgments)
        more = arrival_metrics(runtime.get(self.run).frame, graded, older)
        return frame.join(more, on="query_id", how="left", maintain_order="left").with_columns(
            pl.col("new@10").fill_null(0.0)
        )


def arrival_metrics(run: pl.DataFrame, graded: pl.DataFrame, older: pl.Series) -> pl.DataFrame:
    """The columns of this protocol.

    Args:
        run: `query_id`, `product_id`, `rank`.
        graded: `query_id`, `product_id`, `relevant` of all judgments.
        older: ids of the products that were there before.

    Returns:
        `query_id` and Float64 columns, null where a query has no such relevant product.
    """
    is_old = pl.col("product_id").is_in(older.implode())
    ranks = run.select("query_id", "product_id", "rank")
    good = graded.filter("relevant").select("query_id", "product_id")
    known = good.join(ranks, on=["query_id", "product_id"], how="left").with_columns(old=is_old)
    parts = []
    for name, those in (("new", ~pl.col("old")), ("old", pl.col("old"))):
        for depth in (10, 100):
            hit = (pl.col("rank") <= depth).fill_null(False).cast(pl.Float64)
            parts.append(hit.filter(those).mean().alias(f"Recall@{depth} {name}"))
    shares = known.group_by("query_id").agg(parts)
    first = ranks.filter(pl.col("rank") <= 10)
    shown = first.group_by("query_id").agg((~is_old).cast(pl.Float64).mean().alias("new@10"))
    whole = shares.join(shown, on="query_id", how="full", coalesce=True)
    return whole.select("query_id", *METRICS)
