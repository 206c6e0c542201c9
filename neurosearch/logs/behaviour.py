"""The sessions that came with the data: impressions with positions, clicks and purchases.

Of the shop they are SIMULATED, and of train queries alone. Sessions without positions, such as
bought-together products, are no log of searches.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import BEHAVIOUR, Dataset, queries_of
from neurosearch.logs.base import LogArtifact, Logs, SearchLog


@dataclass(frozen=True)
class Behaviour(Logs):
    def log(self, data: Artifact[Dataset], split: str) -> Artifact[SearchLog]:
        return BehaviourLog(view.only(data, queries_of(split), BEHAVIOUR), split)

    def label(self) -> str:
        return "the data's sessions"


@dataclass(frozen=True)
class BehaviourLog(LogArtifact):
    def gathered(self, runtime: Runtime) -> SearchLog:
        data = runtime.get(self.data)
        events = data.behaviour
        if events is None or "position" not in events.columns:
            raise InputError(f"logs=behaviour: data={data.name} has no sessions with positions")
        asked = events.filter(pl.col("query_id").is_not_null(), pl.col("position").is_not_null())
        known = asked.filter(pl.col("query_id").is_in(data.queries(self.split).ids.implode()))
        if known.is_empty():
            raise InputError(f"logs=behaviour: no session is of a {self.split} query")
        frame = known.group_by("session", "query_id", "product_id", "position").agg(
            clicked=(pl.col("event") == "click").any(),
            purchased=(pl.col("event") == "purchase").any(),
        )
        whole = frame.with_columns(
            list=pl.col("session").rank("dense").cast(pl.Int64) - 1,
            client=pl.col("session").cast(pl.String),
            dwell=pl.lit(None, pl.Float64),
            randomised=pl.lit(False),
        )
        left_out = {"events without a query or a position": events.height - asked.height}
        return SearchLog(whole, left_out)
