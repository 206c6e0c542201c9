"""Dense retrieval: an encoder's query vectors against an index of its product vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.exportable import Exportable
from neurosearch.core.query import Reader
from neurosearch.core.retrieval import (
    SCORED,
    RetrievalRequest,
    Retriever,
    RunArtifact,
    Searcher,
    judged_ids,
    judged_rows,
)
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.index.base import Index
from neurosearch.index.exact import Exact
from neurosearch.index.flat import Flat
from neurosearch.index.live import LiveIndex

FLOOR = -1.0  # of a cosine
EXACT = {"exact@10 %": 10, "exact@100 %": 100}  # of the nearest products, found by the index


@dataclass(frozen=True)
class Dense(Retriever):
    encoder: Encoder = field(default_factory=Sentence)
    index: Index = field(default_factory=Flat)

    floor: ClassVar[float | None] = FLOOR

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.encoder, Encoder):
            kind = type(self.encoder).__name__
            raise self.error("encoder", f"is a {kind}, which gives no vector a text")
        if self.index.needs_refinement:
            name = type(self.index).__name__.lower()
            how = f"index=refine index@retriever.index.coarse={name}"
            raise self.error("index", f"gives candidates, not scores: {how}")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        queries = self._queries(data, request)
        if request.pool == "judged":
            return PoolRun(
                request.view(data), request, queries, self.encoder.product_embeddings(data)
            )
        return DenseRun(request.view(data), request, queries, self._index(data))

    def diagnosis(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        if request.pool == "judged":
            return None
        queries, products = self._queries(data, request), self.encoder.product_embeddings(data)
        return ComparedShare(request.view(data), request, queries, self._index(data), products)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [self._index(data)]

    def exports(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Exportable]:
        index = self.index.exported(self.encoder.product_embeddings(data), data)
        encoder = self.encoder.exported(data)
        return {"index": index} if encoder is None else {"encoder": encoder, "index": index}

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        index = runtime.get(self._index(data)).on(runtime)
        live = self.encoder.loaded(runtime, data)
        query = request.query.reader(runtime)
        yield _DenseSearcher(self.encoder.identity(data), live, index, query)

    @property
    def is_live(self) -> bool:
        return self.encoder.reads_words

    def _queries(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Embeddings]:
        """The vectors that the index is searched with."""
        return self.encoder.query_embeddings(data, request.split, request.query)

    def _index(self, data: Artifact[Dataset]) -> Artifact[LiveIndex]:
        return self.index.build(self.encoder.product_embeddings(data))

    def label(self) -> str:
        # An index that loses something is named; the exact one is what is taken for granted.
        plain = self.index.label() == "Flat"
        return self.encoder.label() + ("" if plain else f" · {self.index.label()}")


@dataclass(frozen=True)
class DenseRun(RunArtifact):
    """Retrieval from the catalogue."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[Embeddings]
    index: Artifact[LiveIndex]

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        embedded = runtime.get(self.queries)
        index = runtime.get(self.index).on(runtime)
        rows, scores = index.search(embedded, self.request.depth)
        queries = self.request.queries(data)
        floor = floor_of(scores[rows >= 0])
        return Run.from_arrays(rows, scores, queries, data.catalogue, self.request.depth, floor)


@dataclass(frozen=True)
class ComparedShare(Artifact[pl.DataFrame]):
    """scored.parquet: `scored %`, vectors that a query is compared with per hundred products.

    And how many of the nearest products by exact search the index finds, `exact@10 %` and
    `exact@100 %`; one that scores like the last of them counts as well as it does.
    """

    kind: ClassVar[str] = "scored"
    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[Embeddings]
    index: Artifact[LiveIndex]
    products: Artifact[Embeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data, queries = runtime.get(self.data), runtime.get(self.queries)
        vectors = np.ascontiguousarray(queries.vectors, dtype=np.float32)
        live = runtime.get(self.index).on(runtime)
        share = 100 * live.compared(vectors) / len(data.catalogue)
        rows, _ = live.search(queries, self.request.depth)
        shown = runtime.get(self.products).vectors
        columns = {SCORED: share}
        for name, size in EXACT.items():
            if size <= rows.shape[1]:
                exact = Exact.of(vectors, shown, min(size, len(shown)))
                columns[name] = 100 * exact.recall(rows[:, : exact.k])
        columns = {name: values.astype(np.float64) for name, values in columns.items()}
        frame = pl.DataFrame({"query_id": self.request.queries(data).ids, **columns})
        frame.write_parquet(folder / "scored.parquet")
        return {name: round(float(values.mean()), 3) for name, values in columns.items()}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "scored.parquet", glob=False)


@dataclass(frozen=True)
class PoolRun(RunArtifact):
    """Exact scores of the judged products."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[Embeddings]
    products: Artifact[Embeddings]

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        pool = judged_rows(queries, data)
        query_vectors = runtime.get(self.queries).vectors[pool["query"].to_numpy()]
        products = runtime.get(self.products).vectors[pool["row"].to_numpy()]
        scores = np.einsum("nd,nd->n", query_vectors, products)
        scores = np.where((products != 0).any(axis=1), scores, FLOOR)  # a missing picture
        frame = judged_ids(pool, queries, data).with_columns(score=scores)
        return Run.from_frame(frame, queries, floor=floor_of(scores))


def floor_of(scores: np.ndarray) -> float | None:
    """The least possible score: that of a cosine, or None where these are other inner products."""
    return FLOOR if np.abs(scores).max(initial=0.0) <= 1 + 1e-3 else None


@dataclass(frozen=True)
class _DenseSearcher:
    identity: str
    encoder: LiveEncoder
    index: LiveIndex
    query: Reader

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        texts = self.query.texts(texts)
        with stage("encode"):
            vectors = self.encoder.encode(texts)
        with stage("index"):
            return self.index.search(Embeddings(vectors, self.identity), k)
