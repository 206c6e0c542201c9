"""Products that people saw and passed over: unclicked, above a click in the same list.

Read from the data's sessions (those of the shop, or the log of `encoder.implicit`). What anybody
clicked for the query is no negative. `above: false` takes all impressions without a click, which
Huang et al. (2020) found to be much worse than random products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import BEHAVIOUR, PRODUCTS, Dataset, places_of, queries_of
from neurosearch.negatives.base import ListsArtifact, NegativeLists, Negatives, TrainingContext


@dataclass(frozen=True)
class SkipAbove(Negatives):
    """Attributes:
    above: a click must lie below it; False: any impression without a click.
    times: in so many lists at least.
    """

    per_query: int = setting(1, least=0)
    above: bool = True
    times: int = setting(1, least=1)

    def lists(self, context: TrainingContext) -> list[tuple[int, Artifact[NegativeLists]]]:
        seen = view.only(context.data, PRODUCTS, queries_of("train"), BEHAVIOUR)
        return [(self.per_query, SkippedLists(context, self, seen))]

    def label(self) -> str:
        return "skipped above a click" if self.above else "unclicked impressions"


@dataclass(frozen=True)
class SkippedLists(ListsArtifact):
    recipe: SkipAbove
    seen: Artifact[Dataset]

    def pairs(self, runtime: Runtime) -> tuple[pl.DataFrame, Mapping[str, int]]:
        data = runtime.get(self.seen)
        events = data.behaviour
        if events is None:
            raise InputError(
                f"negatives=skip_above: data={data.name} has no sessions; encoder.implicit has"
            )
        here = events.filter(pl.col("query_id").is_not_null(), pl.col("position").is_not_null())
        impressions = here.group_by("session", "query_id", "product_id", "position").agg(
            clicked=(pl.col("event") != "impression").any()
        )
        lowest = pl.col("position").filter(pl.col("clicked")).max().over("session")
        passed = (
            (pl.col("position") < lowest).fill_null(False) if self.recipe.above else pl.lit(True)
        )
        skipped = impressions.filter(~pl.col("clicked") & passed)
        counted = skipped.group_by("query_id", "product_id").len()
        often = counted.filter(pl.col("len") >= self.recipe.times)
        clicked = impressions.filter(pl.col("clicked")).select("query_id", "product_id").unique()
        kept = often.join(clicked, on=["query_id", "product_id"], how="anti")
        numbered = (
            kept.join(places_of(data.queries("train").ids, "query_id", "query"), on="query_id")
            .join(places_of(data.catalogue.ids, "product_id", "row"), on="product_id")
            .select("query", "row")
            .sort("query", "row")
        )
        refused = {
            "skipped too seldom": counted.height - often.height,
            "clicked elsewhere": often.height - kept.height,
        }
        return numbered, refused
