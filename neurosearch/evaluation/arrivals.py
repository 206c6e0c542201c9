"""Protocol `arrivals`: as `catalogue`, with new and older products apart (`data=changing`).

Recall@10 and Recall@100 once of the relevant products that arrived after the models were trained,
and once of those that were there before; queries without such a relevant product don't count.
Where the new products arrive in steps, Recall@10 is also that of each arrival's products alone
(`Recall@10 arrival 0` is of those that were there before the first).
`new@10` is the share of new products among the first ten, whatever they are worth: next to the
share of the catalogue that is new it says whether a system prefers what it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from neurosearch.evaluation.seen import recall_of

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
        states = view.states(data)
        if not states:
            message = "the data has no new products; it needs data=changing, new_share above 0"
            raise InputError(f"evaluation=arrivals: {message}")
        catalogues = tuple(view.products(state) for state in states)
        return ArrivalMetrics(*self.measured(retriever, data, query), catalogues)


@dataclass(frozen=True)
class ArrivalMetrics(PerQueryMetrics):
    """As `PerQueryMetrics`, with the columns of this protocol."""

    states: tuple[Artifact[Dataset], ...]

    def with_own(self, frame: pl.DataFrame, judgments: Judgments, runtime: Runtime) -> pl.DataFrame:
        known = [runtime.get(state).catalogue.ids for state in self.states]
        graded, run = self.gain.graded(judgments), runtime.get(self.run).frame
        more = arrival_metrics(run, graded, known)
        return frame.join(more, on="query_id", how="left", maintain_order="left").with_columns(
            pl.col("new@10").fill_null(0.0)
        )


def arrival_metrics(
    run: pl.DataFrame, graded: pl.DataFrame, known: Sequence[pl.Series]
) -> pl.DataFrame:
    """The columns of this protocol (those of arrivals: a row of DSI++'s matrix, Mehta et al. 2023).

    Args:
        run: `query_id`, `product_id`, `rank`.
        graded: `query_id`, `product_id`, `relevant` of all judgments.
        known: ids of the products of each earlier state, the oldest first.

    Returns:
        `query_id` and Float64 columns, null where a query has no such relevant product.
    """
    ranks = run.select("query_id", "product_id", "rank")
    good = graded.filter("relevant").select("query_id", "product_id")
    before = [pl.col("product_id").is_in(ids.implode()).cast(pl.Int64) for ids in known]
    found = good.join(ranks, on=["query_id", "product_id"], how="left").with_columns(
        arrival=len(known) - pl.sum_horizontal(before)
    )
    arrival = pl.col("arrival")
    parts = [
        recall_of(those, depth).alias(f"Recall@{depth} {name}")
        for name, those in (("new", arrival > 0), ("old", arrival == 0))
        for depth in (10, 100)
    ]
    each = [
        recall_of(arrival == number, 10).alias(f"Recall@10 arrival {number}")
        for number in range(len(known) + 1 if len(known) > 1 else 0)
    ]
    shares = found.group_by("query_id").agg(*parts, *each)
    first = ranks.filter(pl.col("rank") <= 10)
    is_new = (~pl.col("product_id").is_in(known[0].implode())).cast(pl.Float64)
    shown = first.group_by("query_id").agg(is_new.mean().alias("new@10"))
    whole = shares.join(shown, on="query_id", how="full", coalesce=True)
    return whole.select(
        "query_id", *METRICS, *(name for name in shares.columns if "arrival" in name)
    )
