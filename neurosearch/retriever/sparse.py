"""Learned sparse retrieval: a query's term weights against an inverted index of the products'."""

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
from neurosearch.core.vectors import SparseVectors
from neurosearch.encoder.splade.base import LiveTerms, SparseEncoder
from neurosearch.index.inverted import Inverted, LiveInverted

FLOOR = 0.0  # of an inner product of weights
READ = ("query terms", "product terms", "postings read")


@dataclass(frozen=True)
class Sparse(Retriever):
    """`encoder` gives term weights, `index` searches them."""

    encoder: SparseEncoder = field(kw_only=True)
    index: Inverted = field(default_factory=Inverted)

    floor: ClassVar[float | None] = FLOOR

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.encoder, SparseEncoder):
            kind = type(self.encoder).__name__
            raise self.error("encoder", f"is a {kind}, which gives no weights of terms")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        queries = self.encoder.query_weights(data, request.split, request.query)
        if request.pool == "judged":
            products = self.encoder.product_weights(data)
            return PoolTermsRun(request.view(data), request, queries, products)
        return TermsRun(request.view(data), request, queries, self._index(data))

    def diagnosis(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        if request.pool == "judged":
            return None
        queries = self.encoder.query_weights(data, request.split, request.query)
        return TermCounts(TermsRun(request.view(data), request, queries, self._index(data)))

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [self._index(data)]

    def exports(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Exportable]:
        encoder = self.encoder.exported(data)
        return {} if encoder is None else {"encoder": encoder}

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        live = self.encoder.live(runtime, data)
        index, identity = runtime.get(self._index(data)), self.encoder.identity(data)
        yield _SparseSearcher(live, identity, index, request.query.reader(runtime))

    def _index(self, data: Artifact[Dataset]) -> Artifact[Any]:
        return self.index.build(self.encoder.product_weights(data))

    def label(self) -> str:
        name = self.encoder.label()
        return name if self.index.bits is None else f"{name} · {self.index.label()}"


@dataclass(frozen=True)
class TermsRun(RunArtifact):
    """Retrieval from the catalogue; postings.npy says how many postings each query has read."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[SparseVectors]
    index: Artifact[LiveInverted]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.data)
        queries, depth = self.request.queries(data), self.request.depth
        k = min(depth, len(data.catalogue))
        rows, scores, read = runtime.get(self.index).search(runtime.get(self.queries), k)
        run = Run.from_arrays(rows, scores, queries, data.catalogue, depth, FLOOR)
        run.save(folder / "run.parquet")
        np.save(folder / "postings.npy", read)
        return {"split": run.split, "queries": len(queries), "rows": run.frame.height}


@dataclass(frozen=True)
class TermCounts(Artifact[pl.DataFrame]):
    """terms.parquet: terms of each query, mean terms of the products, and postings read."""

    kind: ClassVar[str] = "term_counts"
    run: TermsRun

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.run.data)
        read = np.load(runtime.store.ensure(self.run) / "postings.npy").astype(np.float64)
        terms = np.diff(runtime.get(self.run.queries).matrix.indptr).astype(np.float64)
        postings = runtime.get(self.run.index).postings
        of_products = np.full(len(terms), len(postings.rows) / max(1, postings.products))
        ids = self.run.request.queries(data).ids
        columns = dict(zip(READ, (terms, of_products, read), strict=True))
        frame = pl.DataFrame({"query_id": ids, **columns})
        frame.write_parquet(folder / "terms.parquet")
        return {name: round(float(values.mean()), 3) for name, values in columns.items()}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "terms.parquet", glob=False)


@dataclass(frozen=True)
class PoolTermsRun(RunArtifact):
    """Exact scores of the judged products."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[SparseVectors]
    products: Artifact[SparseVectors]

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        pool = judged_rows(queries, data)
        query_terms, shown = (runtime.get(part).matrix for part in (self.queries, self.products))
        common = query_terms[pool["query"].to_numpy()].multiply(shown[pool["row"].to_numpy()])
        scores = np.asarray(common.sum(axis=1), dtype=np.float64).ravel()
        frame = judged_ids(pool, queries, data).with_columns(pl.Series("score", scores))
        return Run.from_frame(frame, queries, floor=FLOOR)


@dataclass(frozen=True)
class _SparseSearcher:
    live: LiveTerms
    identity: str
    index: LiveInverted
    query: Reader

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        texts = self.query.texts(texts)
        with stage("encode"):
            weights = SparseVectors(self.live.encode(texts, 0), self.identity)
        with stage("index"):
            rows, scores, _ = self.index.search(weights, k)
        return rows, scores
