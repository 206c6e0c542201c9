"""Pseudo-relevance feedback on vectors (Li et al. 2021): a query moves towards what it finds.

Rocchio: q' = alpha q + beta mean(d_1, …, d_k), the vectors of the first k products of a first
search; q' searches again. The average of q and k products is alpha = 1/(k+1), beta = k/(k+1).
Vectors are scaled to length 1, which changes no order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.query import Reader
from neurosearch.core.retrieval import RetrievalRequest, Searcher
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.index.live import LiveIndex
from neurosearch.retriever.dense import Dense


@dataclass(frozen=True)
class VectorFeedback(Dense):
    """Attributes:
    documents: products of the first search that a query moves towards.
    alpha: weight of the query.
    beta: weight of the products' mean; 0 for no feedback.
    The rest: see `Dense`.
    """

    documents: int = setting(3, least=1)
    alpha: float = setting(0.9, above=0)
    beta: float = setting(0.1, least=0)

    def _queries(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Embeddings]:
        products = self.encoder.product_embeddings(data)
        typed = super()._queries(data, request)
        return MovedQueries(typed, self._index(data), products, self._weights)

    @property
    def _weights(self) -> tuple[int, float, float]:
        return self.documents, self.alpha, self.beta

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [self._index(data), self.encoder.product_embeddings(data)]

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        index = runtime.get(self._index(data)).on(runtime)
        products = runtime.get(self.encoder.product_embeddings(data))
        live, query = self.encoder.loaded(runtime, data), request.query.reader(runtime)
        yield _FeedbackSearcher(self._weights, live, index, products, query)

    def label(self) -> str:
        return f"{super().label()} + feedback of {self.documents} ({self.alpha:g}, {self.beta:g})"


def moved(
    queries: Embeddings,
    index: LiveIndex,
    products: Embeddings,
    weights: tuple[int, float, float],
) -> Embeddings:
    """The queries after a first search.

    Args:
        queries: Q vectors.
        index: of the products.
        products: N vectors of the same encoder.
        weights: how many products a query moves towards, alpha, beta.

    Returns:
        Q vectors of length 1; queries that find nothing keep their direction.
    """
    documents, alpha, beta = weights
    rows, _ = index.search(queries, documents)
    there = (rows >= 0)[..., None]
    shown = np.where(there, products.vectors[np.maximum(rows, 0)], 0.0)
    mean = shown.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    vectors = alpha * np.asarray(queries.vectors) + beta * mean
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    return Embeddings(scaled, queries.encoder)


@dataclass(frozen=True)
class MovedQueries(Artifact[Embeddings]):
    """vectors.npy: the queries' vectors after the first search."""

    kind: ClassVar[str] = "moved_queries"
    queries: Artifact[Embeddings]
    index: Artifact[LiveIndex]
    products: Artifact[Embeddings]
    weights: tuple[int, float, float]  # see `moved`

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        index = runtime.get(self.index).on(runtime)
        products = runtime.get(self.products)
        result = moved(runtime.get(self.queries), index, products, self.weights)
        np.save(folder / "vectors.npy", result.vectors)
        (folder / "embeddings.json").write_text(json.dumps({"encoder": result.encoder}), "utf-8")
        return {"shape": list(result.vectors.shape)}

    def load(self, folder: Path) -> Embeddings:
        return Embeddings.load(folder)


@dataclass(frozen=True)
class _FeedbackSearcher:
    weights: tuple[int, float, float]
    encoder: LiveEncoder
    index: LiveIndex
    products: Embeddings
    query: Reader

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        vectors = self.encoder.encode(self.query.texts(texts))
        queries = Embeddings(vectors, self.products.encoder)
        return self.index.search(moved(queries, self.index, self.products, self.weights), k)

    def moved_by(self, text: str) -> tuple[np.ndarray, tuple[float, float]]:
        """What a query's vector is the sum of.

        Args:
            text: after query processing.

        Returns:
            Rows of the products that it moves towards, and the factors of the query and of each of
            these products.
        """
        documents, alpha, beta = self.weights
        own = Embeddings(self.encoder.encode([text]), self.products.encoder)
        rows = self.index.search(own, documents)[0][0]
        rows = rows[rows >= 0]
        query = np.asarray(own.vectors[0])
        each = beta / max(1, len(rows))
        whole = alpha * query + each * self.products.vectors[rows].sum(axis=0)
        length = max(float(np.linalg.norm(whole)), 1e-12)
        return rows, (alpha / length, each / length)
