"""Protocol `holes`: as `catalogue`, with what is known of a list in spite of its unjudged products.

A product that nobody judged is worth nothing to nDCG, so a system that finds new good products is
punished for it. These columns say how much that may matter:

* `gain recall`: share of all judged gain that a list has anywhere, to the evaluated depth;
* `condensed nDCG@10 of D`: with unjudged products removed from lists of depth D (the depth is in
  the name: the deeper the list, the more of the judged products it has);
* `bpref` (Buckley and Voorhees 2004, trec_eval's formula): how often judged bad products stand
  above relevant ones; unjudged ones are ignored;
* `RBP` (Moffat and Zobel 2008) with `RBP residual`: what the list is worth to a user who looks on
  with probability p, and how much more if all unjudged products, and those below the list, were the
  best;
* `nDCG@10 filled`: with an unjudged product worth what the query's judged ones are on average, in
  the list and in the ideal one.

infAP and infNDCG are not here: they need pools that were drawn with known probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Judgments
from neurosearch.evaluation.base import PerQueryMetrics
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.metrics import condensed_name

RECALL, BPREF, RBP, RESIDUAL, FILLED = (
    "gain recall",
    "bpref",
    "RBP",
    "RBP residual",
    "nDCG@10 filled",
)
METRICS = (RECALL, BPREF, RBP, RESIDUAL, FILLED)
PAIR = ["query_id", "product_id"]


@dataclass(frozen=True)
class HolesProtocol(CatalogueProtocol):
    """Attributes:
    persistence: p of RBP, the probability of looking at the next product.
    The rest: see `Evaluation`.
    """

    persistence: float = setting(0.8, above=0, below=1)

    @property
    def protocol(self) -> str:
        return "holes" if self.persistence == 0.8 else f"holes p={self.persistence:g}"

    def metrics(
        self, retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor
    ) -> Artifact[pl.DataFrame]:
        measured = self.measured(retriever, data, query)
        return HoleMetrics(*measured, self.depth, self.persistence)


@dataclass(frozen=True)
class HoleMetrics(PerQueryMetrics):
    """As `PerQueryMetrics`, with the columns of this protocol."""

    depth: int
    persistence: float

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        means = super().build(folder, runtime)
        none = self.load(folder)[BPREF].null_count()
        return {**means, "queries without a relevant product": float(none)}

    def with_own(self, frame: pl.DataFrame, judgments: Judgments, runtime: Runtime) -> pl.DataFrame:
        graded = self.gain.graded(judgments)
        more = hole_metrics(runtime.get(self.run).frame, graded, self.persistence)
        frame = frame.join(more, on="query_id", how="left", maintain_order="left")
        found = [pl.col(name).fill_null(0.0) for name in (RECALL, RBP, FILLED)]
        # A query without a list may have found anything.
        frame = frame.with_columns(*found, pl.col(RESIDUAL).fill_null(1.0))
        has = frame["query_id"].is_in(graded.filter(pl.col("relevant"))["query_id"].implode())
        bpref = pl.when(pl.Series(has)).then(pl.col(BPREF).fill_null(0.0))
        name = condensed_name(self.depth)
        return frame.with_columns(bpref.alias(BPREF), pl.col("condensed nDCG@10").alias(name))


def hole_metrics(run: pl.DataFrame, graded: pl.DataFrame, persistence: float) -> pl.DataFrame:
    """The columns of this protocol for every query that has a list.

    Args:
        run: `query_id`, `product_id`, `rank`.
        graded: `query_id`, `product_id`, `gain`, `relevant` of all judgments.
        persistence: p of RBP.

    Returns:
        `query_id` and Float64 columns; `bpref` is null where no relevant product was found.
    """
    largest = max(float(graded["gain"].to_numpy().max(initial=0)), 1e-12)
    frame = run.select(*PAIR, "rank").join(graded, on=PAIR, how="left").sort("query_id", "rank")
    worth, unjudged = pl.col("gain").fill_null(0.0), pl.col("gain").is_null()
    looked = (1 - persistence) * pl.lit(persistence).pow(pl.col("rank") - 1)
    first = pl.col("rank") <= 10
    of_query = graded.group_by("query_id").agg(
        total=pl.col("gain").sum(),
        mean=pl.col("gain").mean(),
        R=pl.col("relevant").sum().cast(pl.Float64),
        N=(~pl.col("relevant")).sum().cast(pl.Float64),
        ideal=_ideal_filled(),
    )
    frame = frame.join(of_query, on="query_id", how="left")
    bad = (~unjudged) & ~pl.col("relevant").fill_null(False)
    least = pl.min_horizontal("R", "N")
    above = pl.min_horizontal(bad.cast(pl.Float64).cum_sum().over("query_id"), least)
    # trec_eval: a relevant product that no judged bad one can stand above counts whole.
    kept = pl.when(least > 0).then(1 - above / least).otherwise(1.0)
    guessed = pl.when(unjudged).then(pl.col("mean").fill_null(0.0)).otherwise(worth)
    discount = (pl.col("rank") + 1).log(2)
    return (
        frame.with_columns(kept=kept, guess=pl.when(first).then(guessed / discount).otherwise(0.0))
        .group_by("query_id", maintain_order=True)
        .agg(
            (worth.sum() / pl.col("total").first().clip(1e-12)).alias(RECALL),
            (
                pl.col("kept").filter(pl.col("relevant").fill_null(False)).sum()
                / pl.col("R").first()
            ).alias(BPREF),
            (looked * worth / largest).sum().alias(RBP),
            (
                (looked * unjudged.cast(pl.Float64)).sum()
                + pl.lit(persistence).pow(pl.col("rank").max())
            ).alias(RESIDUAL),
            (pl.col("guess").sum() / pl.col("ideal").first().clip(1e-12)).alias(FILLED),
        )
        .with_columns(pl.col(BPREF).fill_nan(None))
    )


def _ideal_filled() -> pl.Expr:
    """DCG of a query's ten best gains, where those below the mean make room for unjudged ones."""
    gains = pl.col("gain")
    better = gains.filter(gains > gains.mean()).sort(descending=True).head(10)
    places = (pl.int_range(10) + 2).log(2)
    found = (better / (pl.int_range(better.len()) + 2).log(2)).sum()
    rest = places.filter(pl.int_range(10) >= better.len())
    return found + gains.mean() * (1 / rest).sum()


def dropped(judgments: pl.DataFrame, share: float, rng: np.random.Generator) -> pl.DataFrame:
    """The judgments without a random share of them.

    Args:
        judgments: one row a pair.
        share: 0 to 1.
        rng: draws them.

    Returns:
        The rows that stay, in their order.
    """
    return judgments.filter(pl.Series(rng.random(judgments.height) >= share))
