"""What semantic IDs can do before a decoder is trained: products in the order of their codes.

A product's score is the query's inner product with the vector that its ID stands for (`Codewords`),
which is a sum over codes, so a beam search over the catalogue's trie can find it. The row
belongs into every table of generative retrieval: a decoder that stays below it adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
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
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.stages import stage
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.generator.expansion import IN_BUCKETS, expand
from neurosearch.tokenizer.base import SemanticTokenizer
from neurosearch.tokenizer.codewords import CodeVectors, Codewords

BLOCK = 256  # queries at a time


@dataclass(frozen=True)
class Codes(Retriever):
    """Attributes:
    tokenizer: whose IDs rank; its encoder reads queries.
    beam: prefixes kept on each level; None to compare a query with all IDs.
    """

    tokenizer: SemanticTokenizer = field(kw_only=True)
    beam: int | None = setting(None, least=1)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        encoder = self.tokenizer.encoder
        queries = encoder.query_embeddings(data, request.split, request.query)
        parts = self._parts(data)
        return CodesRun(request.view(data), request, queries, *parts, self.beam)

    def _parts(
        self, data: Artifact[Dataset]
    ) -> tuple[Artifact[SemanticIds], Artifact[CodeVectors], Artifact[Embeddings]]:
        ids, products = self.tokenizer.semantic_ids(data), self.tokenizer.encoder
        vectors = products.product_embeddings(data)
        earlier = view.before(data)  # what codes stand for is read off the products that were there
        told = self.tokenizer.semantic_ids(earlier), products.product_embeddings(earlier)
        return ids, Codewords(*told), vectors

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return list(self._parts(data))

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        ids, words, products = self._parts(data)
        parts = runtime.get(ids), runtime.get(words), runtime.get(products).vectors
        ranker = CodeRanker(*parts, self.beam, request.depth, runtime)
        live = self.tokenizer.encoder.loaded(runtime, data)
        yield _CodesSearcher(ranker, live, request.query.reader(runtime))

    @property
    def is_live(self) -> bool:
        return self.tokenizer.encoder.reads_words

    def label(self) -> str:
        how = "all IDs" if self.beam is None else f"beam {self.beam}"
        tokenizer = self.tokenizer
        return f"Codes of {tokenizer.label()} ({tokenizer.levels} × {tokenizer.codes}, {how})"


class CodeRanker:
    """IDs of a catalogue, ready to be searched with vectors."""

    def __init__(
        self,
        ids: SemanticIds,
        words: CodeVectors,
        products: np.ndarray,
        beam: int | None,
        depth: int,
        runtime: Runtime,
    ) -> None:
        from neurosearch.generator.trie import Trie
        from neurosearch.nn.exact_search import ExactSearch

        self._device = runtime.torch_device()
        self._words, self._products, self._beam, self._depth = words, products, beam, depth
        self.trie = Trie.of(ids)
        if beam is None:
            first = self.trie.bucket_rows[self.trie.bucket_begin[:-1]]
            vectors = words.decode(np.asarray(ids.codes[first]))
            self._exact = ExactSearch(vectors, [self._device])
        else:
            self.trie = self.trie.to(self._device)

    def search(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Products by their IDs; those of one ID in the order of their own vectors.

        Args:
            vectors: Q×D float32 of queries.
            k: products of a query.

        Returns:
            Q×k rows (-1 padded) and scores.
        """
        scores, leaves = self._ids(np.array(vectors, dtype=np.float32), k)
        buckets = self.trie.bucket_begin, self.trie.bucket_rows
        return expand(scores, leaves, buckets, k, (vectors, self._products), IN_BUCKETS)

    def _ids(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Q×W scores and leaves; W is at least k, so that every ID that matters is there."""
        if self._beam is None:
            leaves, scores = self._exact.search(vectors, min(max(k, self._depth), self.trie.leaves))
            return scores, leaves
        import torch

        from neurosearch.generator.beam import beam_search

        parts = []
        with torch.inference_mode():
            for start in range(0, len(vectors), BLOCK):
                part = torch.from_numpy(vectors[start : start + BLOCK]).to(self._device)
                beams = beam_search(_Stepper(part, self._words), self.trie, self._beam)
                parts.append((beams.scores.cpu().numpy(), beams.nodes.cpu().numpy()))
        scores, leaves = (np.concatenate(some) for some in zip(*parts, strict=True))
        return scores, np.where(np.isfinite(scores), leaves, -1)


class _Stepper:
    """Inner products with codes' vectors, which no earlier code changes."""

    def __init__(self, queries: Any, words: CodeVectors) -> None:
        import torch

        books = [torch.from_numpy(book).to(queries.device) for book in words.books]
        self._levels = iter([queries @ book.T for book in books])

    def begin(self) -> Any:
        return next(self._levels)[:, None]

    def advance(self, parents: Any, codes: Any) -> Any:
        return next(self._levels)[:, None].expand(-1, parents.shape[1], -1)


@dataclass(frozen=True)
class CodesRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    queries: Artifact[Embeddings]
    ids: Artifact[SemanticIds]
    words: Artifact[CodeVectors]
    products: Artifact[Embeddings]
    beam: int | None

    def answer(self, runtime: Runtime) -> Run:
        data, ids = runtime.get(self.data), runtime.get(self.ids)
        words, products = runtime.get(self.words), runtime.get(self.products).vectors
        vectors, queries = runtime.get(self.queries).vectors, self.request.queries(data)
        if self.request.pool == "judged":
            pool = judged_rows(queries, data)
            query, row = pool["query"].to_numpy(), pool["row"].to_numpy()
            stood = words.decode(np.asarray(ids.codes[row])) + IN_BUCKETS * products[row]
            scores = np.einsum("nd,nd->n", vectors[query], stood).astype(np.float64)
            frame = judged_ids(pool, queries, data).with_columns(pl.Series("score", scores))
            return Run.from_frame(frame, queries)
        ranker = CodeRanker(ids, words, products, self.beam, self.request.depth, runtime)
        rows, scores = ranker.search(vectors, min(self.request.depth, len(data.catalogue)))
        return Run.from_arrays(rows, scores, queries, data.catalogue, self.request.depth)


@dataclass(frozen=True)
class _CodesSearcher:
    ranker: CodeRanker
    encoder: LiveEncoder
    query: Reader

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        processed = self.query.texts(texts)
        with stage("encode"):
            vectors = self.encoder.encode(processed)
        with stage("index"):
            return self.ranker.search(vectors, k)
