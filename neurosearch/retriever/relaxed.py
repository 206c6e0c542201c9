"""A shop's strict search, and what it does where too few products have every word.

Strict: a product must have all words of the query. While fewer than `least` products are found, the
search is relaxed, stage by stage; products of an earlier stage stay above those of a later one, and
BM25 orders the products of a stage:

1. the words as they were typed;
2. the words as query processing reads them (corrected, split);
3. each word, or a term that query processing looks up besides (synonyms, translations) in its
   place: as many words as stage 2 has must be met by words and terms;
4. without the word that most products have, then without the next one, and so on;
5. what `fallback` finds, such as a dense retriever.

Reported a query: whether stage 1 finds nothing, and which stage filled the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import NO_IDENTITY, Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.feedback import LiveTerms, TermVectors
from neurosearch.retriever.relaxed_search import RelaxedSearcher, as_arrays, completed

NOTHING, STAGE = "no strict result %", "relaxed to stage"


@dataclass(frozen=True)
class Relaxed(Retriever):
    """Attributes:
    words: BM25, whose scores order the products of a stage.
    fallback: finds what is still missing; None for nothing.
    least: products from which the search is not relaxed any more.
    """

    words: BM25 = field(default_factory=BM25)
    fallback: Retriever | None = None
    least: int = setting(10, least=1)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        if request.pool == "judged":
            return self.words.run(data, request)  # every judged product is ranked anyway
        return self._run(data, request)

    def _run(self, data: Artifact[Dataset], request: RetrievalRequest) -> RelaxedRun:
        other = None if self.fallback is None else self.fallback.run(data, request)
        needed = *self.words.indexes(data), self._terms(data)
        return RelaxedRun(request.view(data), request, self, needed, other, data)

    def _terms(self, data: Artifact[Dataset]) -> Artifact[LiveTerms]:
        return TermVectors(view.products(data), self.words.analyzer)

    def diagnosis(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Any] | None:
        return None if request.pool == "judged" else Stages(self._run(data, request))

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        below = [] if self.fallback is None else self.fallback.serving(data, request)
        return [*self.words.serving(data, request), self._terms(data), *below]

    @property
    def is_live(self) -> bool:
        return self.fallback is None or self.fallback.is_live

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[RelaxedSearcher]:
        with ExitStack() as stack:
            live = stack.enter_context(self.words.searcher(data, request, runtime))
            other = None
            if self.fallback is not None:
                other = stack.enter_context(self.fallback.searcher(data, request, runtime))
            terms = runtime.get(self._terms(data))
            reader, tokenizer = request.query.reader(runtime), self.words.analyzer.tokenizer()
            yield RelaxedSearcher(self.least, live, terms, reader, tokenizer, other)

    def label(self) -> str:
        below = "" if self.fallback is None else f", then {self.fallback.label()}"
        return f"strict {self.words.label()}, relaxed below {self.least}{below}"


@dataclass(frozen=True)
class RelaxedRun(RunArtifact):
    """stages.parquet says of each query what its strict search found, and which stage was last."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    recipe: Relaxed
    needed: tuple[Artifact[Any], ...]
    other: Artifact[Run] | None
    whole: Artifact[Dataset] = field(metadata=NO_IDENTITY)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data, depth = runtime.get(self.data), self.request.depth
        queries = self.request.queries(data)
        alone = replace(self.recipe, fallback=None)
        with alone.searcher(self.whole, self.request, runtime) as live:
            staged = [live.staged(query, depth) for query in live.query.read(queries.texts)]
        lists = [one.rows for one in staged]
        if self.other is not None:
            pairs = numbered_pairs(runtime.get(self.other), queries.ids, data.catalogue.ids)
            below = {q: part["row"].to_numpy() for (q,), part in pairs.group_by("query")}
            nothing = np.empty(0, np.int64)
            lists = [completed(own, below.get(n, nothing), depth) for n, own in enumerate(lists)]
        rows, scores = as_arrays(lists, depth)
        run = Run.from_arrays(rows, scores, queries, data.catalogue, depth)
        run.save(folder / "run.parquet")
        frame = pl.DataFrame(
            {
                "query_id": queries.ids,
                NOTHING: [100.0 * (one.strict == 0) for one in staged],
                STAGE: [float(one.last) for one in staged],
            }
        )
        frame.write_parquet(folder / "stages.parquet")
        return {"split": run.split, "queries": len(queries), "rows": run.frame.height}


@dataclass(frozen=True)
class Stages(Artifact[pl.DataFrame]):
    """stages.parquet of a relaxed run."""

    kind: ClassVar[str] = "stages"
    run: RelaxedRun

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        frame = pl.read_parquet(runtime.store.ensure(self.run) / "stages.parquet", glob=False)
        frame.write_parquet(folder / "stages.parquet")
        names = (NOTHING, STAGE)
        return {name: round(float(frame[name].to_numpy().mean()), 3) for name in names}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "stages.parquet", glob=False)
