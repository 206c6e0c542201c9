"""The reranker role: scores of (query, product) pairs that a first stage found.

A re-ranker that is trained learns from what its first stage finds for the train queries: the
negatives that it will meet. Where a re-ranker stands on scores of models that saw the train
queries themselves, those are taken out of fold (`Fold`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.exportable import Exportable
from neurosearch.core.recipe import Recipe
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import PRODUCTS, Dataset
from neurosearch.core.view import DataSource, View
from neurosearch.data.reading import hashed_fraction


class LiveScorer(Protocol):
    """Scores pairs of live texts and product rows."""

    def __call__(self, texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
        """P scores; `pairs`: `query` (a place in `texts`), `row`, and `score`, `rank` so far;
        for scorers that read them also the columns of `features.of_leg`."""


@dataclass(frozen=True)
class Reranker(Recipe):
    """Base of re-rankers."""

    def scores(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[Run]:
        """The same pairs with this re-ranker's scores; `first` is who found the candidates.

        Args:
            candidates: the first stage's run.
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.
            first: the retriever that finds the candidates.

        Returns:
            A run of the candidates' pairs, re-ordered.
        """
        raise TypeError(f"{type(self).__name__} does not say how it scores")

    @property
    def is_live(self) -> bool:
        """Whether it scores live queries: where it says how (`live`)."""
        return type(self).live is not Reranker.live

    @property
    def reads_legs(self) -> bool:
        """Whether its live scorer needs what each member of the first stage said of a pair."""
        return False

    def live(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever, runtime: Runtime
    ) -> LiveScorer:
        """The loaded re-ranker.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.
            first: the retriever that finds the candidates.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            What scores live pairs.
        """
        raise TypeError(f"{type(self).__name__} does not score live queries")

    def serving(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever
    ) -> list[Any]:
        """The artifacts that answering needs.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.
            first: the retriever that finds the candidates.

        Returns:
            Artifacts, in no particular order.
        """
        return []

    def exported(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever
    ) -> Exportable | None:
        """What other libraries can load of it; None for nothing.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, how deep, and from which pool.
            first: the retriever that finds the candidates.

        Returns:
            What `task=export` writes, or None.
        """
        return None


@dataclass(frozen=True)
class Candidates(RunArtifact):
    """The first `depth` of each list; all of a judged pool."""

    run: Artifact[Run]
    depth: int | None

    def answer(self, runtime: Runtime) -> Run:
        run = runtime.get(self.run)
        kept = run.frame if self.depth is None else run.frame.filter(pl.col("rank") <= self.depth)
        return Run(run.split, kept, run.floor, run.query_ids)


@dataclass(frozen=True)
class PairScores(RunArtifact):
    """Base of what scores candidates: subclasses give one number a pair."""

    candidates: Artifact[Run]
    data: Artifact[Dataset]
    request: RetrievalRequest

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        """Scores of pairs.

        Args:
            query: P numbers of the request's queries.
            row: P rows of products.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            P numbers; more is better.
        """
        raise TypeError(f"{type(self).__name__} does not say how it scores")

    def answer(self, runtime: Runtime) -> Run:
        data, run = runtime.get(self.data), runtime.get(self.candidates)
        queries = self.request.queries(data)
        pairs = numbered_pairs(run, queries.ids, data.catalogue.ids)
        scores = self.score(pairs["query"].to_numpy(), pairs["row"].to_numpy(), runtime)
        frame = pairs.select("query_id", "product_id").with_columns(
            pl.Series("score", scores.astype(np.float64))
        )
        return Run.from_frame(frame, queries)


@dataclass(frozen=True)
class Fold(DataSource):
    """The data with one fold of the train queries held out: they are its test split.

    What is trained on it never saw them, so what it says of them does not leak. Their judgments
    are not in it.
    """

    whole: View
    folds: int
    number: int

    @classmethod
    def of(cls, data: Artifact[Dataset], folds: int, number: int) -> Fold:
        """The fold of a data set's train queries.

        Args:
            data: the data set, or a view of it.
            folds: parts that the train queries are dealt to.
            number: of the fold that is held out, from 0.

        Returns:
            The fold as a data set.
        """
        source = view.learning(data)
        assert isinstance(source, View)
        return cls(source, folds, number)

    @property
    def depth(self) -> int:
        """How many folds this one lies in."""
        around = self.whole.stored()
        return around.depth + 1 if isinstance(around, Fold) else 0

    def before(self) -> DataSource | None:
        """See `DataSource`: the same fold of the earlier state."""
        earlier = view.before(self.whole)
        return None if earlier is self.whole else Fold.of(earlier, self.folds, self.number)

    def states(self) -> tuple[DataSource, ...]:
        """See `DataSource`: the same fold of each."""
        return tuple(Fold.of(state, self.folds, self.number) for state in view.states(self.whole))

    def passes(self) -> float:
        """See `DataSource`."""
        return self.whole.whole.passes()

    def replays(self) -> bool:
        """See `DataSource`."""
        return self.whole.whole.replays()

    def part_digest(self, part: str) -> str:
        # The products are the data's own: what was made of them serves all folds.
        if part == PRODUCTS:
            return self.whole.whole.part_digest(part)
        return super().part_digest(part)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.whole)
        salt = "fold" if not self.depth else f"fold {self.depth}"  # folds of a fold are dealt anew
        fold = pl.col("query_id").map_elements(
            lambda text: int(hashed_fraction(text, salt) * self.folds), pl.Int64
        )
        train, mine = data.queries("train").frame, fold == self.number
        held = train.filter(mine).with_columns(split=pl.lit("test"))
        queries = [train.filter(~mine), held, data.queries("dev").frame]
        pl.concat(queries).write_parquet(folder / "queries.parquet")
        judged = [
            data.judgments("train").frame.filter(~mine).with_columns(split=pl.lit("train")),
            data.judgments("dev").frame.with_columns(split=pl.lit("dev")),
        ]
        pl.concat(judged).write_parquet(folder / "judgments.parquet")
        view.write_derived(folder, data)
        return {"held out queries": held.height}

    def load(self, folder: Path) -> Dataset:
        return view.load_derived(folder)
