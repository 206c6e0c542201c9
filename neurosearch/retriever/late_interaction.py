"""Late interaction: a query's token vectors against an index of the products' token vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.artifact import Artifact
from neurosearch.encoder.colbert import ColBERT
from neurosearch.index.multivector import MultiVector
from neurosearch.query.base import QueryProcessor
from neurosearch.retriever.base import SCORED, Retriever, RunArtifact, Searcher, Topics, judged_rows
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Run, TokenEmbeddings

FLOOR = -1.0  # of a mean of cosines


@dataclass(frozen=True)
class LateInteraction(Retriever):
    """`encoder` gives token vectors, `index` searches them."""

    encoder: ColBERT = field(kw_only=True)
    index: MultiVector = field(default_factory=MultiVector)

    floor: ClassVar[float | None] = FLOOR

    def run(self, data: Artifact[Dataset], topics: Topics) -> Artifact[Run]:
        queries = self.encoder.query_tokens(data, topics.split, topics.query)
        if topics.pool == "judged":
            products = self.encoder.product_tokens(data)
            return PoolTokensRun(topics.view(data), topics, queries, products)
        return TokensRun(topics.view(data), topics, queries, self._index(data))

    def diagnosis(self, data: Artifact[Dataset], topics: Topics) -> Artifact[pl.DataFrame] | None:
        if topics.pool == "judged":
            return None
        queries = self.encoder.query_tokens(data, topics.split, topics.query)
        return CandidateShare(TokensRun(topics.view(data), topics, queries, self._index(data)))

    def serving(self, data: Artifact[Dataset], topics: Topics) -> list[Artifact[Any]]:
        return [self._index(data)]

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], topics: Topics, runtime: Runtime
    ) -> Iterator[Searcher]:
        live = self.encoder.live(runtime, data)
        identity = self.encoder.identity(data)
        yield _LateSearcher(live, identity, runtime.get(self._index(data)), topics.query, runtime)

    def _index(self, data: Artifact[Dataset]) -> Artifact[Any]:
        return self.index.build(self.encoder.product_tokens(data))

    def label(self) -> str:
        name = self.encoder.label()
        return name if self.index.bits is None else f"{name} · {self.index.label()}"


@dataclass(frozen=True)
class TokensRun(RunArtifact):
    """Retrieval from the catalogue; counts.npy says how many products each query scored."""

    data: Artifact[Dataset]
    topics: Topics
    queries: Artifact[TokenEmbeddings]
    index: Artifact[Any]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.data)
        queries = self.topics.queries(data)
        depth = self.topics.depth
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
        ids = self.run.topics.queries(data).ids
        frame = pl.DataFrame({"query_id": ids, SCORED: share.astype(np.float64)})
        frame.write_parquet(folder / "scored.parquet")
        return {SCORED: round(float(share.mean()), 3)}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "scored.parquet")


@dataclass(frozen=True)
class PoolTokensRun(RunArtifact):
    """Exact scores of the judged products."""

    data: Artifact[Dataset]
    topics: Topics
    queries: Artifact[TokenEmbeddings]
    products: Artifact[TokenEmbeddings]

    def answer(self, runtime: Runtime) -> Run:
        from neurosearch.index.maxsim import pair_scores
        from neurosearch.index.multivector import ragged

        data = runtime.get(self.data)
        queries = self.topics.queries(data)
        pool = judged_rows(queries, data)
        device = runtime.torch_device()
        asked, shown = (ragged(runtime.get(x), device) for x in (self.queries, self.products))
        scores = pair_scores(asked, shown, pool["query"].to_numpy(), pool["row"].to_numpy())
        frame = pool.select(
            queries.ids.gather(pool["query"]).alias("query_id"),
            data.catalogue.ids.gather(pool["row"]).alias("product_id"),
        ).with_columns(pl.Series("score", scores))
        return Run.from_frame(frame, queries, floor=FLOOR)


@dataclass(frozen=True)
class _LateSearcher:
    live: Any
    identity: str
    index: Any
    query: QueryProcessor
    runtime: Runtime

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        vectors, offsets = self.live.encode(self.query.process(list(texts)), 0)
        asked = TokenEmbeddings(vectors, offsets, self.identity)
        rows, scores, _ = self.index.search(asked, k, self.runtime)
        return rows, scores
