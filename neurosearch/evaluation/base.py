"""The evaluation role: a protocol, gains, per-query metrics as artifacts, and how to test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.machine import hardware
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import Recipe
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import SPLITS, Dataset, Judgments, Queries, judgments_of, queries_of
from neurosearch.evaluation.gain import Gain
from neurosearch.evaluation.latency import Latency, LatencyProtocol
from neurosearch.evaluation.seen import seen_metrics
from neurosearch.evaluation.ties import TIES

HEADLINE = "nDCG@10"
JUDGED = "judged.parquet"


@dataclass(frozen=True)
class Evaluation(Recipe):
    """Base of the protocols.

    Attributes:
        gain: what labels are worth.
        split: whose queries are evaluated.
        depth: products a query in every run (catalogue protocol).
        baseline: the row that the others are tested against: `key=value` terms, separated by
            blanks, that are all among its job's overrides or choices.
        resamples: bootstrap resamples, and permutations of the paired test.
        seed: of both.
        by: a column of the queries; the headline metric is also given for each of its values.
        seen: whether Recall@10 is also given of products that train queries had as relevant, and
            of the others (see `evaluation.seen`).
        latency: how it is measured.
        ties: `trec_eval` (equal scores in descending order of product ids) or `expected` (each
            metric's mean over all orders of equal scores, see `evaluation.ties`).
    """

    pool: ClassVar[str]
    gain: Gain
    split: str = setting("test", choices=SPLITS)
    depth: int = setting(200, most=1_000_000)
    baseline: str = "retriever=bm25"
    resamples: int = setting(10_000, least=1, most=1_000_000)
    seed: int = 0
    latency: LatencyProtocol = field(default_factory=LatencyProtocol)
    by: str | None = None
    seen: bool = False
    ties: str = setting("trec_eval", choices=TIES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all("=" in term for term in self.baseline.split()):
            message = f"by its overrides, such as retriever=bm25, not {self.baseline!r}"
            raise self.error("baseline", f"names a row {message}")
        if self.depth < 100 and self.pool == "catalogue":
            raise self.error("depth", f"is {self.depth}; Recall@100 needs at least 100")

    @property
    def protocol(self) -> str:
        """Its name in tables."""
        return self.pool

    def check(self, data: Dataset) -> None:
        """Raise InputError where this evaluation can't be of `data`: its split, labels, columns.

        Args:
            data: the whole data set, the test judgments included.
        """
        queries = data.queries(self.split)
        if self.by is not None:
            check_column(queries, self.by)
        if self.seen and not data.has("train"):
            raise InputError("evaluation.seen: the data has no train queries")
        labels = [data.judgments(split).frame["label"] for split in SPLITS if data.has(split)]
        self.gain.check(pl.concat(labels))
        worth = self.gain.values(data.judgments(self.split).frame["label"])["gain"]
        if not (worth > 0).any():
            raise InputError(
                f"no {self.split} judgment is worth anything under gain {self.gain.label()}: "
                "every metric would be 0"
            )

    def request(self, query: QueryProcessor) -> RetrievalRequest:
        """The request to a retriever under this protocol.

        Args:
            query: how the query texts are processed first.

        Returns:
            The request, of this protocol's split, depth and pool.
        """
        return RetrievalRequest(query, self.split, self.depth, self.pool)

    def metrics(
        self, retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor
    ) -> Artifact[pl.DataFrame]:
        """Per-query metrics of a system's run, those of its own included, as an artifact.

        Args:
            retriever: the system.
            data: the data set, or a view of it.
            query: how the query texts are processed first.

        Returns:
            One row a query (`query_id` and Float64 columns), as an artifact.
        """
        return PerQueryMetrics(*self.measured(retriever, data, query))

    def measured(
        self, retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor
    ) -> Measured:
        """The fields of a `PerQueryMetrics` of a system, for protocols that add some.

        Args:
            retriever: the system.
            data: the data set, or a view of it.
            query: how the query texts are processed first.

        Returns:
            The fields, in their order.
        """
        request = self.request(query)
        run, diagnosis = retriever.run(data, request), retriever.diagnosis(data, request)
        judged = view.only(data, queries_of(self.split), judgments_of(self.split))
        trained = view.only(data, judgments_of("train")) if self.seen else None
        how = self.split, self.gain, self.by, trained, self.ties, self.pool
        return judged, run, diagnosis, *how

    def latency_of(
        self, retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor
    ) -> Latency | None:
        """The latency artifact, or None where it is off or the system is not live.

        Args:
            retriever: the system.
            data: the data set, or a view of it.
            query: how the query texts are processed first.

        Returns:
            The measurement as an artifact, or None.
        """
        if self.latency.queries == 0 or not retriever.is_live:
            return None
        request = self.request(query)
        serving = tuple(retriever.serving(data, request))
        source = view.with_queries(data, self.split)
        return Latency(data, source, retriever, request, self.latency, hardware(), serving)


# Judged data, run, diagnosis, split, gain, by, what train queries judged, ties, pool.
Measured = tuple[
    Artifact[Dataset],
    Artifact[Run],
    Artifact[pl.DataFrame] | None,
    str,
    Gain,
    str | None,
    Artifact[Dataset] | None,
    str,
    str,
]


@dataclass(frozen=True)
class PerQueryMetrics(Artifact[pl.DataFrame]):
    """metrics.parquet: one row a query. Reading it imports neither ranx nor torch.

    judged.parquet: the judgments, with their gains and what counts as relevant, for reports.
    """

    kind: ClassVar[str] = "metrics"
    data: Artifact[Dataset]
    run: Artifact[Run]
    diagnosis: Artifact[pl.DataFrame] | None
    split: str
    gain: Gain
    by: str | None
    trained: Artifact[Dataset] | None
    ties: str
    pool: str

    def check(self, runtime: Runtime) -> None:
        if self.by is not None:
            check_column(runtime.get(self.data).queries(self.split), self.by)

    def judgments(self, runtime: Runtime) -> Judgments:
        """What the run is measured by.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Labels of the split.
        """
        return runtime.get(self.data).judgments(self.split)

    def with_own(self, frame: pl.DataFrame, judgments: Judgments, runtime: Runtime) -> pl.DataFrame:
        """The metrics with the columns that only this protocol has.

        Args:
            frame: one row a query.
            judgments: what the run is measured by.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            The same rows, in their order.
        """
        return frame

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.evaluation.metrics import per_query
        from neurosearch.evaluation.ties import expected_per_query, tie_range

        data, run = runtime.get(self.data), runtime.get(self.run)
        if run.split != self.split:
            raise InputError(f"a run of {run.split} can't be evaluated on {self.split}")
        queries, judgments = data.queries(self.split), self.judgments(runtime)
        if self.pool == "judged":
            pairs = ["query_id", "product_id"]
            other = run.frame.join(judgments.frame, on=pairs, how="anti")
            if other.height:
                message = "its run method ignores the request's pool"
                raise InputError(
                    f"a run over the judged pool names product {other[0, 'product_id']!r}, "
                    f"which nobody judged for query {other[0, 'query_id']!r}: {message}"
                )
        measure = expected_per_query if self.ties == "expected" else per_query
        frame = measure(run, queries, judgments, self.gain)
        frame = frame.hstack(tie_range(run, queries, judgments, self.gain))
        if self.by is not None:
            frame = frame.hstack(sliced(frame[HEADLINE], queries, self.by))
        if self.trained is not None:
            known = self.gain.graded(runtime.get(self.trained).judgments("train"))
            more = seen_metrics(run.frame, self.gain.graded(judgments), known)
            frame = frame.join(more, on="query_id", how="left", maintain_order="left")
        if self.diagnosis is not None:
            diagnosis = runtime.get(self.diagnosis)
            frame = frame.join(diagnosis, on="query_id", how="left", maintain_order="left")
        frame = self.with_own(frame, judgments, runtime)
        frame.write_parquet(folder / "metrics.parquet")
        graded = judgments.frame.hstack(self.gain.values(judgments.frame["label"]))
        columns = ("query_id", "product_id", "label", "gain", "relevant")
        graded.select(*columns).write_parquet(folder / JUDGED)
        means = frame.drop("query_id").mean().row(0, named=True)
        return {name: round(value, 6) for name, value in means.items() if value is not None}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "metrics.parquet", glob=False)


def check_column(queries: Queries, column: str) -> None:
    """Raise InputError where the queries have no such column to slice by.

    Args:
        queries: of one split.
        column: `evaluation.by`.
    """
    columns = queries.frame.columns
    if column not in columns:
        known = ", ".join(c for c in columns if c not in ("query_id", "text", "image"))
        raise InputError(f"evaluation.by={column!r}: the queries have {known or 'no columns'}")


def sliced(scores: pl.Series, queries: Queries, column: str) -> list[pl.Series]:
    """A metric once for each value of a column of the queries, null where they have another.

    Args:
        scores: Q values of a metric, named.
        queries: Q queries.
        column: of the queries.

    Returns:
        One series of Q values for each value of the column.
    """
    values = queries.frame[column].cast(pl.String)
    names = values.drop_nulls().unique().sort()
    frame = pl.DataFrame({"score": scores, "value": values})
    return [
        frame.select(
            pl.when(pl.col("value") == name).then("score").alias(f"{scores.name} {name}")
        ).to_series()
        for name in names
    ]
