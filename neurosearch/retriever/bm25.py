"""BM25 (Robertson et al.; Lucene's variant) over product fields.

`boosts` maps fields to weights: `contents` is every text field joined, or name single fields
(title, brand, bullets, description, colour, category) for a boosted sum of per-field scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.query import Reader
from neurosearch.core.retrieval import (
    RetrievalRequest,
    Retriever,
    RunArtifact,
    Searcher,
    judged_rows,
)
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage
from neurosearch.core.types import TEXT_FIELDS, Dataset, Queries
from neurosearch.query.analyzer import Analyzer, Tokenizer
from neurosearch.query.lexical import Words, weighted
from neurosearch.retriever import bm25s_engine, lucene, lucene_search

ENGINES = ("lucene", "bm25s")
FLOOR = 0.0  # a product without any query term


@dataclass(frozen=True)
class BM25(Retriever):
    """`engine`: lucene (Anserini, in processes of its own) or bm25s (no Java)."""

    engine: str = setting("lucene", choices=ENGINES)
    k1: float = setting(0.9, least=0)
    b: float = setting(0.4, least=0, most=1)
    boosts: Mapping[str, float] = field(default_factory=lambda: {"contents": 1.0})
    analyzer: Analyzer = field(default_factory=Analyzer)

    floor: ClassVar[float | None] = FLOOR

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self.boosts)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        return BM25Run(request.view(data), request, self, tuple(self.indexes(data)))

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of all fields that are looked up."""
        return self.boosts

    def indexes(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        """The index artifacts that this scoring needs.

        Args:
            data: the data set, or a view of it.

        Returns:
            The indexes that queries are looked up in, as artifacts.
        """
        if self.engine == "lucene":
            fields = tuple(sorted(name for name in self.boosts if name != lucene_search.CONTENTS))
            return [lucene.LuceneIndex(view.products(data), self.analyzer, fields)]
        return [
            bm25s_engine.Bm25sIndex(view.products(data), self.analyzer, name, self.k1, self.b)
            for name in self.boosts
        ]

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return self.indexes(data)

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        if self.engine == "bm25s":
            pairs = opened(self, self.indexes(data), runtime)
            places = runtime.get(data).catalogue.id_order
            query = request.query.reader(runtime)
            names = tuple(self.weights)
            yield _Bm25sSearcher(pairs, self.analyzer.tokenizer(), query, places, names)
            return
        index = runtime.get(self.indexes(data)[0])
        with lucene_searcher(self, index, request.query.reader(runtime), runtime) as live:
            yield live

    def label(self) -> str:
        return f"BM25 ({'Lucene' if self.engine == 'lucene' else 'bm25s'})"


def check_fields(names: Mapping[str, Any]) -> None:
    """Raise InputError for an empty mapping or a field that products don't have."""
    known = (lucene_search.CONTENTS, *TEXT_FIELDS)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"retriever.boosts: {unknown or 'empty'}; fields are {', '.join(known)}")
    for name, weight in names.items():
        tried = weight if isinstance(weight, tuple) else (weight,)
        least = 0 if isinstance(weight, tuple) else 1e-6  # of those tried, 0 leaves a field out
        for value in tried:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (is_number and math.isfinite(value) and value >= least):
                wanted = "numbers of at least 0" if least == 0 else "a number above 0"
                raise InputError(f"retriever.boosts.{name} must be {wanted}, not {value!r}")


def scoring(recipe: BM25) -> lucene_search.Scoring:
    return lucene_search.Scoring(recipe.k1, recipe.b, recipe.weights)


def opened(
    recipe: BM25, indexes: Sequence[Artifact[Any]], runtime: Runtime
) -> list[tuple[Any, float]]:
    """bm25s indexes with their boosts."""
    weights = recipe.weights.values()
    return [(runtime.get(index), w) for index, w in zip(indexes, weights, strict=True)]


@contextmanager
def lucene_searcher(
    recipe: BM25, index: Path, query: Reader, runtime: Runtime
) -> Iterator[Searcher]:
    """A live Lucene over an open index."""
    with lucene_search.LuceneWorker(index, runtime.java_memory) as worker:
        worker.count()  # the JVM has started
        yield _LuceneSearcher(worker, scoring(recipe), recipe.analyzer.tokenizer(), query)


@dataclass(frozen=True)
class BM25Run(RunArtifact):
    """One BM25 over one split. Inputs: the indexes that the recipe's scoring needs."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    recipe: BM25
    indexes: tuple[Artifact[Any], ...]

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        return search(self.recipe, self.indexes, data, self.request, runtime)


def search(
    recipe: BM25,
    indexes: Sequence[Artifact[Any]],
    data: Dataset,
    request: RetrievalRequest,
    runtime: Runtime,
    tokens: list[Words] | None = None,
) -> Run:
    """The run of one scoring; `tokens`: what is looked up of each query, if not its own words."""
    queries = request.queries(data)
    if tokens is None:
        tokens = looked_up(recipe.analyzer, request, queries, runtime)
    pool = None
    if request.pool == "judged":
        pool = judged_rows(queries, data)
    if recipe.engine == "lucene":
        index = runtime.get(indexes[0])
        if pool is None:
            with lucene_search.LuceneWorkers(index, runtime) as workers:
                (hits,) = workers.search(tokens, request.depth, [scoring(recipe)])
        else:
            with lucene_search.LuceneWorker(index, runtime.java_memory) as worker:
                hits = lucene_search.pool_scores(worker, tokens, pool, scoring(recipe))
    else:
        places = data.catalogue.id_order
        hits = _bm25s_hits(opened(recipe, indexes, runtime), tokens, request.depth, pool, places)
    return to_run(hits, queries, data, request.depth if pool is None else None)


def looked_up(
    analyzer: Analyzer, request: RetrievalRequest, queries: Queries, runtime: Runtime
) -> list[Words]:
    """Weighted tokens of a split's queries."""
    return weighted(analyzer.tokenizer(), request.query.reader(runtime).read(queries.texts))


def to_run(hits: pl.DataFrame, queries: Queries, data: Dataset, depth: int | None) -> Run:
    """A run of `query` number, `row`, `score`."""
    frame = pl.DataFrame(
        {
            "query_id": queries.ids.gather(hits["query"]),
            "product_id": data.catalogue.ids.gather(hits["row"]),
            "score": hits["score"].cast(pl.Float64),
        }
    )
    return Run.from_frame(frame, queries, depth, FLOOR)


def _bm25s_hits(
    indexes: list[tuple[Any, float]],
    tokens: list[Words],
    depth: int,
    pool: pl.DataFrame | None,
    places: np.ndarray,
) -> pl.DataFrame:
    pooled = None
    if pool is not None:
        pooled = dict(pool.group_by("query").agg("row").iter_rows())
    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    for number, scores in enumerate(bm25s_engine.all_scores(indexes, tokens)):
        if pooled is None:
            rows, best = bm25s_engine.top(scores, depth, places)
        else:
            rows = np.array(pooled.get(number, []), dtype=np.int64)
            best = scores[rows]
        parts.append((number, rows, best))
    return pl.DataFrame(
        {
            "query": np.concatenate([np.full(len(rows), n) for n, rows, _ in parts]),
            "row": np.concatenate([rows for _, rows, _ in parts]).astype(np.int64),
            "score": np.concatenate([best for _, _, best in parts]).astype(np.float64),
        }
    )


@dataclass(frozen=True)
class _Bm25sSearcher:
    indexes: list[tuple[Any, float]]
    tokenizer: Tokenizer
    query: Reader
    places: np.ndarray
    fields: tuple[str, ...]

    def words(self, texts: Sequence[str]) -> list[Words]:
        """Weighted tokens of typed texts."""
        return weighted(self.tokenizer, self.query.read(texts))

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.by_words(self.words(texts), k)

    def by_words(self, tokens: list[Words], k: int) -> tuple[np.ndarray, np.ndarray]:
        with stage("words"):
            scored = bm25s_engine.all_scores(self.indexes, tokens)
            return padded([bm25s_engine.top(scores, k, self.places) for scores in scored], k)

    def among(self, words: Words, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of some products that have a term, best first, and their scores."""
        (scores,) = bm25s_engine.all_scores(self.indexes, [words])
        inside = np.zeros_like(scores)
        inside[rows] = scores[rows]
        return bm25s_engine.top(inside, len(rows), self.places)


@dataclass(frozen=True)
class _LuceneSearcher:
    worker: lucene_search.LuceneWorker
    scoring: lucene_search.Scoring
    tokenizer: Tokenizer
    query: Reader

    def words(self, texts: Sequence[str]) -> list[Words]:
        """Weighted tokens of typed texts."""
        return weighted(self.tokenizer, self.query.read(texts))

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.by_words(self.words(texts), k)

    def by_words(self, tokens: list[Words], k: int) -> tuple[np.ndarray, np.ndarray]:
        with stage("words"):
            return padded([self.worker.search(words, k, self.scoring) for words in tokens], k)

    def among(self, words: Words, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of some products that have a term, best first, and their scores."""
        return self.worker.search(words, len(rows), self.scoring, rows.tolist())


def padded(lists: Sequence[tuple[Any, Any]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ragged rows and scores as Q×k arrays, -1 and -inf where there is nothing."""
    rows = np.full((len(lists), k), -1, dtype=np.int64)
    scores = np.full((len(lists), k), -np.inf, dtype=np.float32)
    for number, (some_rows, some_scores) in enumerate(lists):
        rows[number, : len(some_rows)] = some_rows
        scores[number, : len(some_scores)] = some_scores
    return rows, scores
