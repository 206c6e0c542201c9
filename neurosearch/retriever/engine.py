"""Retrieval by a search engine: by words, by vectors, or by both in one call.

The engine holds what our own indexes hold, BM25's weights and an encoder's vectors, so a row of
`engine/words` differs from BM25's, and one of `engine/vectors` from dense retrieval's, by what the
engine approximates. A generation is loaded once, by its fingerprint (`engine.generation`).
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.filters import Filters
from neurosearch.core.query import Reader
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact, Searcher
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.engine.base import Asked, Collection, Engine
from neurosearch.engine.generation import Generation, Loaded, opened, rows_of
from neurosearch.engine.local import Local
from neurosearch.engine.qdrant_edge import QdrantEdge
from neurosearch.query.analyzer import Analyzer, Tokenizer
from neurosearch.query.lexical import Words, weighted
from neurosearch.retriever.bm25s_engine import Bm25sIndex, LiveField

AT_ONCE = 256  # queries of a call
SAME = {"same@10 %": 10, "same@100 %": 100}  # of the best products by exact search, found
ROUNDED = 1e-4  # of scores, relative


@dataclass(frozen=True)
class InEngine(Retriever):
    """Base of retrieval by an engine.

    Attributes:
        engine: that holds the products.
        fields: that filters may name: `brand`, `colour`, `category`, keys of the attributes; None
            for those of the first three that some product has.
    """

    engine: Engine = field(default_factory=QdrantEdge)
    fields: tuple[str, ...] | None = None

    by: ClassVar[str] = ""

    @abstractmethod
    def generation(self, data: Artifact[Dataset]) -> Generation:
        """What the engine holds.

        Args:
            data: the data set, or a view of it.

        Returns:
            The generation, as an artifact.
        """

    @property
    def asking(self) -> Mapping[str, Any]:
        """Settings of a request, beside its words and vectors."""
        return {}

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        """The engine's lists.

        Args:
            data: the data set, or a view of it.
            request: which queries, how they are processed, and how deep.

        Returns:
            A run of the request's split.

        Raises:
            InputError: the request is for judged products alone.
        """
        if request.pool == "judged":
            message = "retrieves from the catalogue; with evaluation=judged use bm25 or dense"
            raise InputError(f"retriever=engine/{self.by} {message}")
        embedded = None
        if isinstance(self, EngineVectors):
            embedded = self.encoder.query_embeddings(data, request.split, request.query)
        return EngineRun(request.view(data), request, self, self.generation(data), embedded)

    def diagnosis(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        if request.pool == "judged":
            return None
        reference = replace(self, engine=Local())
        return SameLists(self.run(data, request), reference.run(data, request))

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [self.generation(data)]

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        loaded = runtime.get(self.generation(data))
        reading = words_of(self, data, runtime)
        live = None
        if isinstance(self, EngineVectors):
            live = self.encoder.loaded(runtime, data)
        catalogue = runtime.get(data).catalogue
        with self.engine.session(runtime) as session:
            collection = opened(session, loaded)
            query = request.query.reader(runtime)
            yield EngineSearcher(
                self,
                collection,
                reading,
                live,
                query,
                rows_of(catalogue),
                frozenset(loaded.shape.fields),
            )

    def label(self) -> str:
        return f"{self.engine.label()}, {self.by}"


@dataclass(frozen=True)
class EngineWords(InEngine):
    """BM25, its weights computed here.

    Attributes:
        k1, b: of BM25.
        analyzer: of products and queries.
    """

    k1: float = setting(0.9, least=0)
    b: float = setting(0.4, least=0, most=1)
    analyzer: Analyzer = field(default_factory=Analyzer)

    by: ClassVar[str] = "words"
    floor: ClassVar[float | None] = 0.0

    def weights(self, data: Artifact[Dataset]) -> Artifact[LiveField]:
        """BM25's weights of all terms.

        Args:
            data: the data set, or a view of it.

        Returns:
            A bm25s index, as an artifact.
        """
        return Bm25sIndex(view.products(data), self.analyzer, "contents", self.k1, self.b)

    def generation(self, data: Artifact[Dataset]) -> Generation:
        return Generation.of(
            view.products(data), self.engine, self.weights(data), None, self.fields
        )


@dataclass(frozen=True)
class EngineVectors(InEngine):
    """`encoder`: of products and queries."""

    encoder: Encoder = field(default_factory=Sentence)

    by: ClassVar[str] = "vectors"

    def generation(self, data: Artifact[Dataset]) -> Generation:
        vectors = self.encoder.product_embeddings(data)
        return Generation.of(view.products(data), self.engine, None, vectors, self.fields)

    @property
    def is_live(self) -> bool:
        return self.encoder.reads_words


@dataclass(frozen=True)
class EngineHybrid(EngineVectors, EngineWords):
    """Both lists and their fusion (reciprocal ranks) in one call.

    Attributes:
        candidates: products of each list.
        rank_constant: of the fusion.
    """

    candidates: int = setting(200, least=1)
    rank_constant: int = setting(60, least=0)

    by: ClassVar[str] = "hybrid"

    @property
    def asking(self) -> Mapping[str, Any]:
        return {"candidates": self.candidates, "rank_constant": self.rank_constant}

    def generation(self, data: Artifact[Dataset]) -> Generation:
        vectors = self.encoder.product_embeddings(data)
        return Generation.of(
            view.products(data), self.engine, self.weights(data), vectors, self.fields
        )


@dataclass(frozen=True)
class Reading:
    """From a query's words to numbers of terms and weights.

    Attributes:
        tokenizer: of the queries.
        terms: numbers of the terms that products have.
    """

    tokenizer: Tokenizer
    terms: Mapping[str, int]

    def numbered(self, words: Words) -> dict[int, float]:
        """Words that some product has.

        Args:
            words: tokens and weights.

        Returns:
            Weights by term.
        """
        return {self.terms[word]: w for word, w in words.items() if word in self.terms and w > 0}


def engines_in(value: Any) -> Iterator[InEngine]:
    """Retrievers over an engine in a composed retriever.

    Args:
        value: a recipe, or parts of it.

    Returns:
        An iterator, in the order of the fields.
    """
    if isinstance(value, InEngine):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from engines_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for spec in dataclasses.fields(value):
            yield from engines_in(getattr(value, spec.name))


def words_of(recipe: InEngine, data: Artifact[Dataset], runtime: Runtime) -> Reading | None:
    """How queries' words are looked up; None where they are not."""
    if not isinstance(recipe, EngineWords):
        return None
    terms = runtime.get(recipe.weights(data)).terms()
    return Reading(recipe.analyzer.tokenizer(), terms)


def found_rows(numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of product numbers; -1 stays."""
    return np.where(numbers >= 0, rows[np.maximum(numbers, 0)], -1)


@dataclass(frozen=True)
class EngineRun(RunArtifact):
    """The engine's answers to a split's queries.

    Attributes:
        embedded: vectors of the queries; None where only words are asked for.
    """

    data: Artifact[Dataset]
    request: RetrievalRequest
    recipe: InEngine
    generation: Artifact[Loaded]
    embedded: Artifact[Embeddings] | None

    def answer(self, runtime: Runtime) -> Run:
        data, loaded = runtime.get(self.data), runtime.get(self.generation)
        queries = self.request.queries(data)
        vectors = None
        if self.embedded is not None:
            vectors = np.asarray(runtime.get(self.embedded).vectors, dtype=np.float32)
        words = None
        reading = words_of(self.recipe, self.data, runtime)
        if reading is not None:
            read = self.request.query.reader(runtime).read(queries.texts)
            words = [reading.numbered(one) for one in weighted(reading.tokenizer, read)]
        depth = min(self.request.depth, len(data.catalogue))
        parts = []
        title = f"queries in {self.recipe.engine.title}"
        with (
            self.recipe.engine.session(runtime) as session,
            runtime.progressing(title, len(queries)) as done,
        ):
            collection = opened(session, loaded)
            for start in range(0, len(queries), AT_ONCE):
                inside = slice(start, start + AT_ONCE)
                asked = Asked(
                    depth,
                    None if words is None else words[inside],
                    None if vectors is None else vectors[inside],
                    **self.recipe.asking,
                )
                parts.append(collection.search(asked))
                done(len(parts[-1][0]))
        numbers = np.concatenate([part[0] for part in parts])
        scores = np.concatenate([part[1] for part in parts])
        rows = found_rows(numbers, rows_of(data.catalogue))
        return Run.from_arrays(rows, scores, queries, data.catalogue, depth, self.recipe.floor)


@dataclass(frozen=True)
class SameLists(Artifact[pl.DataFrame]):
    """same.parquet: `same@10 %`, how many of the best products by exact search the engine finds.

    One that scores like the last of them counts as well. The reference is the same retrieval from
    our own files, without approximations.
    """

    kind: ClassVar[str] = "scored"
    run: Artifact[Run]
    reference: Artifact[Run]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        run, reference = runtime.get(self.run), runtime.get(self.reference)
        keys = ["query_id", "product_id"]
        exact = reference.frame.select(*keys, exact="score", place="rank")
        found = run.frame.select(*keys, "rank").join(exact, on=keys, how="left")
        columns: dict[str, Any] = {"query_id": run.query_ids}
        for name, size in SAME.items():
            best = exact.filter(pl.col("place") <= size).group_by("query_id")
            wanted = best.agg(pl.len().alias("wanted"), pl.col("exact").min().alias("least"))
            near = pl.col("exact") >= pl.col("least") - ROUNDED * pl.col("least").abs()
            hits = found.filter(pl.col("rank") <= size).join(wanted, on="query_id").filter(near)
            counted = hits.group_by("query_id").agg(pl.len().alias("hits"))
            shares = wanted.join(counted, on="query_id", how="left").select(
                "query_id", share=100 * pl.min_horizontal(pl.col("hits").fill_null(0) / "wanted", 1)
            )
            order = pl.DataFrame({"query_id": run.query_ids})
            joined = order.join(shares, on="query_id", how="left", maintain_order="left")
            columns[name] = joined["share"].fill_null(100.0)  # nothing to find
        frame = pl.DataFrame(columns)
        frame.write_parquet(folder / "same.parquet")
        return {name: round(float(np.mean(columns[name].to_numpy())), 3) for name in SAME}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "same.parquet", glob=False)


@dataclass(frozen=True)
class EngineSearcher:
    """A live engine. `fields`: that its filters may name."""

    recipe: InEngine
    collection: Collection
    reading: Reading | None
    encoder: LiveEncoder | None
    query: Reader
    rows: np.ndarray
    fields: frozenset[str]

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.filtered(texts, k, {})

    def filtered(
        self, texts: Sequence[str], k: int, filters: Filters
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `search`, of the products that pass filters: the engine applies them.

        Args:
            texts: Q query texts, as typed.
            k: results of each query.
            filters: by field.

        Returns:
            Rows of the catalogue and scores, each Q×k, best first.

        Raises:
            InputError: the engine does not hold a field.
        """
        words, vectors = None, None
        if self.reading is not None:
            read = weighted(self.reading.tokenizer, self.query.read(texts))
            words = [self.reading.numbered(one) for one in read]
        if self.encoder is not None:
            with stage("encode"):
                vectors = self.encoder.encode(self.query.texts(texts))
        asked = Asked(k, words, vectors, filters, **self.recipe.asking)
        with stage("engine"):
            numbers, scores = self.collection.search(asked)
        return found_rows(numbers, self.rows), scores
