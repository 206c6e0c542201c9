"""Retrieval: requests in, runs out, and a live searcher for serving and latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import Recipe
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Queries, places_of

POOLS = ("catalogue", "judged")


SCORED = "scored %"  # vectors that a query is compared with, per hundred products


@dataclass(frozen=True)
class RetrievalRequest(Recipe):
    """What a retriever answers.

    Attributes:
        query: how the query texts are processed first.
        split: whose queries.
        depth: products per query.
        pool: `catalogue` (retrieve from everything) or `judged` (rank the judged products).
    """

    query: QueryProcessor
    split: str = "test"
    depth: int = setting(200, least=1)
    pool: str = setting("catalogue", choices=POOLS)

    def view(self, data: Artifact[Dataset]) -> Artifact[Dataset]:
        """What an answer is made of: products, queries, and which products were judged.

        Args:
            data: the data set, or a view of it.

        Returns:
            A view whose fingerprint changes only with these parts.
        """
        return view.with_queries(data, self.split, pool=self.pool == "judged")

    def learning(self, data: Artifact[Dataset]) -> tuple[Artifact[Dataset], RetrievalRequest]:
        """What is tuned for answers to this request: the same of dev, before a catalogue grew.

        Args:
            data: the data set, or a view of it.

        Returns:
            The data that is learnt from, and the request of its dev queries.
        """
        earlier = view.before(data)
        return earlier, replace(self, split="dev", query=self.query.fitted(earlier))

    def queries(self, data: Dataset) -> Queries:
        """The split's queries as they were typed.

        Args:
            data: the data set, or a view of it.

        Returns:
            Queries in the split's order.
        """
        return data.queries(self.split)

    def processed(self, data: Dataset, runtime: Runtime) -> Queries:
        """The split's queries with the texts that encoders and re-rankers read.

        Args:
            data: the data set, or a view of it.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Queries whose texts are rewritten, in the split's order.
        """
        return data.queries(self.split).processed(self.query.reader(runtime).texts)


class Searcher(Protocol):
    """A live system. `search` answers with product rows and scores, best first."""

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Q×k rows (int64, -1 padded) and scores (float32).

        Args:
            texts: Q query texts, as typed.
            k: results of each query.

        Returns:
            Rows of the catalogue and scores, each Q×k, best first.
        """


@dataclass(frozen=True)
class Retriever(Recipe):
    """Base of retrievers.

    Class attributes:
        floor: the least score it can give, or None where unknown.
        is_reference: a row that only bounds the others (random, oracle): not ranked, not tested.
    """

    floor: ClassVar[float | None] = None
    is_reference: ClassVar[bool] = False

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        """The batch answer to `request`, as an artifact: what tables use.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.

        Returns:
            A run of the request's split, at most `request.depth` products a query.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is run")

    def held(
        self, data: Artifact[Dataset], fold: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[Run]:
        """What the system finds for queries that its models were trained without.

        What combines the models stays as it is tuned on the dev split of `data`: it saw no train
        judgment, and what learns from these lists must find the same combination in them as in
        those that it is used on.

        Args:
            data: the whole data set, or a view of it.
            fold: the data set without those queries, which are its test split.
            request: which queries of `fold`, how they are processed, and how deep.

        Returns:
            A run of the fold's queries.
        """
        return self.run(fold, request)

    def legs(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Artifact[Run]]:
        """The lists that this one is fused from, by name; none where it is not a fusion.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.

        Returns:
            Runs by the members' names, as deep as they are fused.
        """
        return {}

    def diagnosis(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        """Metrics of the system's own, query by query (`query_id` and Float64 columns), or None.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.

        Returns:
            One row a query, as an artifact, or None.
        """
        return None

    def probabilities(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        """How likely each class of label is for each judged pair; None for systems that say not.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, and from which pool.

        Returns:
            `query_id`, `product_id`, and `p <class>` of each class, as an artifact, or None.
        """
        return None

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        """The artifacts that answering needs: their bytes are the system's size.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.

        Returns:
            Artifacts, in no particular order.
        """
        return []

    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> AbstractContextManager[Searcher]:
        """The live system, as `request` asks for it: what serving and latency use.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            A context that yields the searcher, and frees what it holds at its end.

        Raises:
            InputError: the system has no live searcher.
        """
        message = "has no live searcher: its run can be made, but no query typed"
        raise InputError(f"{self.label()} {message}")

    def exports(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Exportable]:
        """The parts that other libraries can load, by their address in this recipe.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.

        Returns:
            Exportable parts by address, such as `encoder`.
        """
        return {}

    def processing(
        self, data: Artifact[Dataset], query: QueryProcessor
    ) -> Mapping[str, QueryProcessor]:
        """How queries are processed, by the values of their column `reads_by`.

        Args:
            data: the data set, or a view of it.
            query: the processing that was composed, fitted.

        Returns:
            Processing by value; under `""` that of all queries where there is no such column.
        """
        return {"": query}

    @property
    def reads_by(self) -> str | None:
        """A column of the queries that says how each is processed; None for one way for all."""
        return None

    @property
    def is_live(self) -> bool:
        """Whether there is a live searcher; without one no latency is measured."""
        return type(self).searcher is not Retriever.searcher


@dataclass(frozen=True)
class RunArtifact(Artifact[Run]):
    """Base of run artifacts: subclasses answer; the base writes run.parquet."""

    kind: ClassVar[str] = "run"

    def answer(self, runtime: Runtime) -> Run:
        """The run itself.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Lists of the split's queries.
        """
        raise TypeError(f"{type(self).__name__} does not say how it answers")

    def check(self, runtime: Runtime) -> None:
        fields: Any = self
        if hasattr(self, "request"):  # else it is made of runs that have them
            runtime.get(fields.data).queries(fields.request.split)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        run = self.answer(runtime)
        _check_answer(run, type(self).__name__)
        run.save(folder / "run.parquet")
        return {"split": run.split, "queries": len(run.query_ids), "rows": run.frame.height}

    def load(self, folder: Path) -> Run:
        return Run.load(folder / "run.parquet")


def _check_answer(run: Any, name: str) -> None:
    """Raise InputError for an answer that no metric may be taken of; custom retrievers err."""
    if not isinstance(run, Run):
        raise InputError(f"{name}.answer must return a Run, not {type(run).__name__}")
    again = run.frame.filter(~pl.struct("query_id", "product_id").is_first_distinct())
    if again.height:
        query, product = again[0, "query_id"], again[0, "product_id"]
        raise InputError(f"{name}: product {product!r} is twice in the list of query {query!r}")


def judged_rows(queries: Queries, data: Dataset) -> pl.DataFrame:
    """The judged pool: `query` and `row` numbers, in the order of queries, then rows.

    Args:
        queries: whose judged products.
        data: that has the pool of their split.

    Returns:
        One row a pair, both columns Int64.
    """
    order = places_of(queries.ids, "query_id", "query")
    ids = places_of(data.catalogue.ids, "product_id", "row")
    joined = data.pool(queries.split).join(order, on="query_id").join(ids, on="product_id")
    return joined.select(pl.col("query", "row").cast(pl.Int64)).sort("query", "row")


def judged_ids(pool: pl.DataFrame, queries: Queries, data: Dataset) -> pl.DataFrame:
    """`query_id` and `product_id` of the pairs of `judged_rows`.

    Args:
        pool: `query` and `row` numbers.
        queries: whose judged products.
        data: with the products.

    Returns:
        One row a pair, in their order.
    """
    return pool.select(
        query_id=queries.ids.gather(pool["query"]),
        product_id=data.catalogue.ids.gather(pool["row"]),
    )
