"""A teacher that never saw what it teaches: a system's scores of train queries, out of fold.

The train queries are dealt to folds. For each fold the whole system is trained and tuned without
it, and then answers its queries. What a system says of queries that it was trained on repeats
their labels; this says what it would find for new ones. Scores are standardised within a query's
list, so that lists of different scales teach alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.recipe import remembered
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.fusion.normalization import normalised
from neurosearch.reranker.base import Fold


@dataclass(frozen=True)
class OutOfFold(Retriever):
    """Attributes:
    retriever: any system that is trained or tuned on judgments.
    folds: of the train queries.
    depth: products of a list.
    """

    retriever: Retriever
    folds: int = setting(2, least=2)
    depth: int = setting(100, least=2)

    @remembered
    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        if request.split != "train":
            return self.retriever.run(data, request)
        parts = []
        for number in range(self.folds):
            fold = Fold.of(data, self.folds, number)
            query = request.query.fitted(fold)
            parts.append(self.retriever.run(fold, replace(request, query=query, split="test")))
        return JoinedFolds(view.with_queries(data, "train"), request, tuple(parts), self.depth)

    def label(self) -> str:
        return f"{self.retriever.label()}, out of fold"


@dataclass(frozen=True)
class JoinedFolds(RunArtifact):
    """The lists of all folds as one run of the train split; `depth` products of each."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    parts: tuple[Artifact[Run], ...]
    depth: int

    def answer(self, runtime: Runtime) -> Run:
        queries = self.request.queries(runtime.get(self.data))
        frames = []
        for part in self.parts:
            run = runtime.get(part)
            kept = Run(run.split, run.frame.filter(pl.col("rank") <= self.depth))
            frames.append(
                normalised("teacher", kept, "zmuv").select("query_id", "product_id", "score")
            )
        return Run.from_frame(pl.concat(frames), queries)
