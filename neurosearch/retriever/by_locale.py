"""A retriever a locale: each query is answered by the one whose analyser reads its language.

For catalogues of several languages, such as `data=esci data.locale=all`, whose queries say their
locale. Every member searches the whole catalogue with its own analyser, and reads queries after
steps that have learnt from its locale's products and train queries alone: a Spanish word is no
misspelt English one. A typed text has no locale, so there is no live searcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.language import LOCALES
from neurosearch.data.of_locale import of_locale


@dataclass(frozen=True)
class ByLocale(Retriever):
    """Attributes:
    members: retrievers by locale.
    column: of the queries, that holds the locale.
    """

    members: Mapping[str, Retriever]
    column: str = "locale"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.members:
            raise self.error("members", "is empty: a retriever for each locale is needed")

    def language_of(self, locale: str) -> str | None:
        """The language that a member's analyser has to stem.

        Args:
            locale: of a member.

        Returns:
            A language, or None for one that is not known by its locale.
        """
        return LOCALES.get(locale)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        processing = self.processing(data, request.query)
        runs = {
            name: member.run(data, replace(request, query=processing[name]))
            for name, member in self.members.items()
        }
        return ByLocaleRun(request.view(data), request, runs, self.column)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        processing = self.processing(data, request.query)
        parts = []
        for name, member in self.members.items():
            parts += member.serving(data, replace(request, query=processing[name]))
        return parts

    def processing(
        self, data: Artifact[Dataset], query: QueryProcessor
    ) -> Mapping[str, QueryProcessor]:
        return {name: query.fitted(of_locale(data, name, self.column)) for name in self.members}

    @property
    def reads_by(self) -> str | None:
        return self.column

    def label(self) -> str:
        inside = ", ".join(f"{name} {member.label()}" for name, member in self.members.items())
        return f"by {self.column}: {inside}"


@dataclass(frozen=True)
class ByLocaleRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    runs: Mapping[str, Artifact[Run]]
    column: str

    def check(self, runtime: Runtime) -> None:
        frame = self.request.queries(runtime.get(self.data)).frame
        if self.column not in frame.columns:
            raise InputError(f"retriever.column={self.column!r}: the queries have no such column")
        strange = frame.filter(~pl.col(self.column).is_in(list(self.runs)))
        if strange.height:
            locale, query = strange[0, self.column], strange[0, "query_id"]
            message = f"query {query} is of {self.column} {locale!r}"
            raise InputError(f"retriever.members has {', '.join(self.runs)}, and {message}")

    def answer(self, runtime: Runtime) -> Run:
        queries = self.request.queries(runtime.get(self.data))
        locale = queries.frame.select("query_id", self.column)
        parts = []
        for name, run in self.runs.items():
            mine = locale.filter(pl.col(self.column) == name)
            parts.append(runtime.get(run).frame.join(mine, on="query_id", how="semi"))
        depth = self.request.depth if self.request.pool == "catalogue" else None
        columns = ("query_id", "product_id", "score")
        return Run.from_frame(pl.concat([part.select(columns) for part in parts]), queries, depth)
