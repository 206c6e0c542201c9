"""A re-ranker's plain scores, for students to learn from: of candidates and of what was judged.

Its run is an artifact like any other, so a teacher scores once for all its students. Students ask
it about train queries only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.reranker.base import Candidates, Reranker


@dataclass(frozen=True)
class Teacher(Retriever):
    """`depth` candidates of `retriever` a query, scored by `reranker`."""

    retriever: Retriever
    reranker: Reranker
    depth: int = setting(50, least=1)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        candidates: Artifact[Run] = Candidates(self.retriever.run(data, request), self.depth)
        if request.split == "train":
            candidates = WithJudged(candidates, view.learning(data, "train"))
        return self.reranker.scores(candidates, data, request, self.retriever)

    def label(self) -> str:
        return f"{self.retriever.label()} + {self.reranker.label()}, candidates only"


@dataclass(frozen=True)
class WithJudged(RunArtifact):
    """Candidates of the train queries, and all products that were judged for them."""

    run: Artifact[Run]
    data: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        if runtime.get(self.run).split != "train":
            raise InputError("a teacher adds what was judged for train queries only")
        return super().build(folder, runtime)

    def answer(self, runtime: Runtime) -> Run:
        run, data = runtime.get(self.run), runtime.get(self.data)
        keys = ["query_id", "product_id"]
        judged = data.judgments("train").frame.select(*keys)
        judged = judged.filter(pl.col("product_id").is_in(data.catalogue.ids.implode()))
        more = judged.join(run.frame, on=keys, how="anti", maintain_order="left")
        least = run.frame["score"].min()
        below = more.with_columns(score=pl.lit(least, pl.Float64) - 1)
        both = pl.concat([run.frame.select(*keys, "score"), below])
        return Run.from_frame(both, data.queries("train"))
