"""Late interaction: a query's token vectors against an index of the products' token vectors."""

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
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.encoder.colbert.base import TokenEncoder
from neurosearch.index.multivector import MultiVector

FLOOR = -1.0  # of a mean of cosines


@dataclass(frozen=True)
class LateInteraction(Retriever):
    """`encoder` gives token vectors, `index` searches them."""

    encoder: TokenEncoder = field(kw_only=True)
    index: MultiVector = field(default_factory=MultiVector)

    floor: ClassVar[float | None] = FLOOR

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.encoder, TokenEncoder):
            kind = type(self.encoder).__name__
            raise self.error("encoder", f"is a {kind}, which gives no vectors of tokens")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        queries = self.encoder.query_tokens(data, request.split, request.query)
        if request.pool == "judged":
            products = self.encoder.product_tokens(data)
            return PoolTokensRun(request.view(data), request, queries, products)
        return TokensRun(request.view(data), request, queries, self._index(data))

    def diagnosis(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        if request.pool == "judged":
            return None
        queries = self.encoder.query_tokens(data, request.split, request.query)
        return CandidateShare(TokensRun(request.view(data), request, queries, self._index(data)))

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
        identity = self.encoder.identity(data)
        query = request.query.reader(runtime)
        yield _LateSearcher(live, identity, runtime.get(self._index(data)), query, runtime)

    def _index(self, data: Artifact[Dataset]) -> Artifact[Any]:
        return self.index.build(self.encoder.product_tokens(data))

    def label(self) -> str:
        name = self.encoder.label()
        return name if self.index.bits is None else f"{name} · {self.index.label()}"


@dataclass(frozen=True)
class TokensRun(RunArtifact):
    """Retrieval from the catalogue; counts.npy says how many products each query scored."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[TokenEmbeddings]
    index: Artifact[Any]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        depth = self.request.depth
        k = min(depth, len(data.catalogue))
        rows, scores, counts = runtime.get(self.index).search(runtime.get(self.queries), k, runtime)
        run = Run.from_arrays(rows, scores, queries, data.catalogue, depth, FLOOR)
        run.save(folder / "run.parquet")
        np.save(folder / "counts.npy", counts)
        return {"split": run.split, "queries": len(queries), "rows": run.frame.height}


@dataclass(frozen=True)
class CandidateShare(Artifact[pl.DataFrame]):
    """scored.parquet: `scored %`, products that a query looks at per hundred."""

    kind: ClassVar[str] = "scored"
    run: TokensRun

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.run.data)
        counts = np.load(runtime.store.ensure(self.run) / "counts.npy")
        share = 100 * counts / len(data.catalogue)
        ids = self.run.request.queries(data).ids
        frame = pl.DataFrame({"query_id": ids, SCORED: share.astype(np.float64)})
        frame.write_parquet(folder / "scored.parquet")
        return {SCORED: round(float(share.mean()), 3)}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "scored.parquet", glob=False)


@dataclass(frozen=True)
class PoolTokensRun(RunArtifact):
    """Exact scores of the judged products."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[TokenEmbeddings]
    products: Artifact[TokenEmbeddings]

    def answer(self, runtime: Runtime) -> Run:
        from neurosearch.index.multivector import ragged
        from neurosearch.nn.maxsim import pair_scores

        data = runtime.get(self.data)
        queries = self.request.queries(data)
        pool = judged_rows(queries, data)
        device = runtime.torch_device()
        query_tokens, shown = (
            ragged(runtime.get(x), device) for x in (self.queries, self.products)
        )
        scores = pair_scores(query_tokens, shown, pool["query"].to_numpy(), pool["row"].to_numpy())
        frame = judged_ids(pool, queries, data).with_columns(pl.Series("score", scores))
        return Run.from_frame(frame, queries, floor=FLOOR)


@dataclass(frozen=True)
class _LateSearcher:
    live: Any
    identity: str
    index: Any
    query: Reader
    runtime: Runtime

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        texts = self.query.texts(texts)
        with stage("encode"):
            vectors, offsets = self.live.encode(texts, 0)
        query_tokens = TokenEmbeddings(vectors, offsets, self.identity)
        with stage("index"):
            rows, scores, _ = self.index.search(query_tokens, k, self.runtime)
        return rows, scores
