"""Multiphase retrieval: semantic-ID prefixes narrow the catalogue down, vectors rank the rest.

Phase 1 finds prefixes of `depth` codes, by the query's vector (best first down the code tree:
a node stands for the mean direction of its products) or by a generator's beam. Phase 2 scores
exactly the products below them, which lie in FAISS inverted lists, one a prefix; with one code
that is an IVF whose cells are the first codes. Where a query's prefixes have too few products,
the next best that were compared join them, and then prefixes are shortened until there are
enough. A reranker on top of it is phase 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.query import Reader
from neurosearch.core.retrieval import SCORED, RetrievalRequest, Retriever, RunArtifact, Searcher
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.generator.base import CodeModelFiles, Generator
from neurosearch.generator.continued import decoder_of
from neurosearch.generator.live import LiveGenerator
from neurosearch.retriever.dense import FLOOR, Dense
from neurosearch.retriever.prefix_lists import PrefixLists, PrefixListsArtifact
from neurosearch.tokenizer.base import SemanticTokenizer


@dataclass(frozen=True)
class Multiphase(Retriever):
    """Attributes:
    tokenizer: whose prefixes; its encoder's vectors score.
    generator: that writes the prefixes, or None to probe by the query's vector.
    depth: codes of a prefix.
    probes: prefixes a query.
    width: prefixes kept on the way down the tree; null for as many as `probes`.
    """

    tokenizer: SemanticTokenizer = field(kw_only=True)
    generator: Generator | None = None
    depth: int = 1
    probes: int = setting(56, least=1)
    width: int | None = setting(None, least=1)

    floor: ClassVar[float | None] = FLOOR

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.depth <= self.tokenizer.levels:
            message = f"retriever.depth={self.depth}"
            raise InputError(f"{message}: 1 to tokenizer.levels={self.tokenizer.levels}")
        if self.generator is not None and not self.generator.reads_words:
            raise self.error("generator", f"is {self.generator.label()}, which reads no words")

    @property
    def widths(self) -> tuple[int, ...]:
        """Prefixes kept on each level."""
        return (self.width or self.probes,) * (self.depth - 1) + (self.probes,)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        encoder = self.tokenizer.encoder
        if request.pool == "judged":  # nothing to narrow down
            return Dense(encoder).run(data, request)
        queries = encoder.query_embeddings(data, request.split, request.query)
        parts = self._lists(data), self._written(data), self.widths
        return MultiphaseRun(request.view(data), request, queries, *parts)

    def diagnosis(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame] | None:
        if request.pool == "judged":
            return None
        run = self.run(data, request)
        assert isinstance(run, MultiphaseRun)
        return ScoredShare(run)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        written = self._written(data)
        return [self._lists(data)] if written is None else [self._lists(data), written]

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        encoder = self.tokenizer.encoder
        live = encoder.loaded(runtime, data)
        lists = runtime.get(self._lists(data))
        written = self._written(data)
        model = None
        if written is not None:
            model = LiveGenerator(runtime.get(written), lists.ids, runtime)
        query = request.query.reader(runtime)
        yield _MultiphaseSearcher(self, live, lists, model, request, query)

    def _lists(self, data: Artifact[Dataset]) -> Artifact[PrefixLists]:
        embeddings = self.tokenizer.encoder.product_embeddings(data)
        return PrefixListsArtifact(embeddings, self.tokenizer.semantic_ids(data), self.depth)

    def _written(self, data: Artifact[Dataset]) -> Artifact[CodeModelFiles] | None:
        if self.generator is None:
            return None
        return decoder_of(self.generator, self.tokenizer, data)[1]

    def label(self) -> str:
        by = "vector" if self.generator is None else "generator"
        message = f"{self.tokenizer.label()}, {by}, depth {self.depth}, probes {self.probes}"
        return f"Multiphase ({message})"


def found_prefixes(
    lists: PrefixLists,
    model: LiveGenerator | None,
    vectors: np.ndarray,
    texts: Sequence[str],
    widths: Sequence[int],
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Phase 1: Q×P nodes with k products or more between them, and Q vectors compared for it."""
    if model is None:
        nodes, compared = lists.probe(vectors, widths, k)
    else:
        written = model.search(texts, widths[-1], depth=lists.depth)
        nodes = np.where(np.isfinite(written.scores), written.nodes, -1)
        compared = np.zeros(len(nodes), dtype=np.int64)
    return lists.enough(nodes, k), compared


@dataclass(frozen=True)
class MultiphaseRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[Embeddings]
    lists: Artifact[PrefixLists]
    written: Artifact[CodeModelFiles] | None
    widths: tuple[int, ...]

    def prefixes(self, runtime: Runtime) -> tuple[np.ndarray, np.ndarray]:
        """Phase 1 of all queries."""
        data, lists = runtime.get(self.data), runtime.get(self.lists)
        texts = self.request.processed(data, runtime).texts
        model = None
        if self.written is not None:
            model = LiveGenerator(runtime.get(self.written), lists.ids, runtime)
        vectors = runtime.get(self.queries).vectors
        return found_prefixes(lists, model, vectors, texts, self.widths, self.request.depth)

    def answer(self, runtime: Runtime) -> Run:
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        data, embedded = runtime.get(self.data), runtime.get(self.queries)
        lists = runtime.get(self.lists)
        if embedded.encoder != lists.encoder:
            raise InputError("the lists hold vectors of another encoder than the queries'")
        nodes, _ = self.prefixes(runtime)
        depth = min(self.request.depth, len(data.catalogue))
        rows, scores = lists.nearest(embedded.vectors, nodes, depth)
        queries = self.request.queries(data)
        return Run.from_arrays(rows, scores, queries, data.catalogue, self.request.depth, FLOOR)


@dataclass(frozen=True)
class ScoredShare(Artifact[pl.DataFrame]):
    """scored.parquet: `scored %`, vectors compared a query (nodes and products) per hundred."""

    kind: ClassVar[str] = "scored"
    run: MultiphaseRun

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data, lists = runtime.get(self.run.data), runtime.get(self.run.lists)
        nodes, compared = self.run.prefixes(runtime)
        products = np.where(nodes >= 0, lists.sizes[nodes], 0).sum(axis=1)
        share = 100 * (products + compared) / len(data.catalogue)
        ids = self.run.request.queries(data).ids
        pl.DataFrame({"query_id": ids, SCORED: share}).write_parquet(folder / "scored.parquet")
        spread = np.percentile(share, [50, 95])
        return {SCORED: round(float(share.mean()), 3), "p50, p95": spread.round(3).tolist()}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "scored.parquet", glob=False)


@dataclass(frozen=True)
class _MultiphaseSearcher:
    recipe: Multiphase
    encoder: LiveEncoder
    lists: PrefixLists
    model: LiveGenerator | None
    request: RetrievalRequest
    query: Reader

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        processed = self.query.texts(texts)
        with stage("encode"):
            vectors = self.encoder.encode(processed)
        widths = self.recipe.widths
        # As many products as in a batch, or a shorter list would come from other prefixes.
        least = max(k, self.request.depth)
        with stage("generate" if self.model else "index"):
            nodes, _ = found_prefixes(self.lists, self.model, vectors, processed, widths, least)
        with stage("index"):
            return self.lists.nearest(vectors, nodes, min(k, len(self.lists.ids)))
