"""Feedback for late interaction: a query gains vectors of the products that it finds first.

ColBERT-PRF (Wang et al. 2021): the token vectors of the first products are clustered, and the
`terms` clusters whose nearest token is rarest join the query. With n vectors q_i of the query and
clusters e_j of weight σ_j = log((N + 1)/(N_j + 1)), N_j being the products that have the token,

    score(d) = (Σ_i max ⟨q_i, d⟩ + beta · Σ_j σ_j max ⟨e_j, d⟩) / (n + terms).

The nearest token is looked for among the first products, not in the whole catalogue. beta 0 is
late interaction itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.query import Reader
from neurosearch.core.ragged import offsets_of
from neurosearch.core.recipe import Recipe
from neurosearch.core.retrieval import RetrievalRequest, Searcher
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.encoder.colbert.recipe import ColBERT
from neurosearch.retriever.late_interaction import CandidateShare, LateInteraction, TokensRun


@dataclass(frozen=True)
class ColbertFeedback(LateInteraction):
    """Attributes:
    documents: products of the first search whose tokens are clustered.
    clusters: of these tokens.
    terms: clusters that join the query.
    beta: their weight; 0 for no feedback.
    The rest: see `LateInteraction`.
    """

    documents: int = setting(3, least=1)
    clusters: int = setting(24, least=1)
    terms: int = setting(10, least=1)
    beta: float = setting(0.5, least=0)

    floor: ClassVar[float | None] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.encoder, ColBERT) or self.encoder.pool_factor != 1:
            reason = "must be colbert with pool_factor=1: products' vectors must be their tokens'"
            raise self.error("encoder", reason)

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        if request.pool == "judged":
            raise InputError(f"{self.label()} retrieves; it ranks no judged pool")
        return self._run(data, request)

    def _run(self, data: Artifact[Dataset], request: RetrievalRequest) -> TokensRun:
        typed = self.encoder.query_tokens(data, request.split, request.query)
        moved = FedBackTokens(typed, self._index(data), *self._tokens(data), self._numbers)
        return TokensRun(request.view(data), request, moved, self._index(data))

    def diagnosis(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Any] | None:
        return None if request.pool == "judged" else CandidateShare(self._run(data, request))

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [self._index(data), *self._tokens(data)]

    @property
    def _numbers(self) -> Numbers:
        return Numbers(self.documents, self.clusters, self.terms, self.beta)

    def _tokens(
        self, data: Artifact[Dataset]
    ) -> tuple[Artifact[TokenEmbeddings], Artifact[tuple[np.ndarray, np.ndarray]]]:
        encoder = self.encoder
        assert isinstance(encoder, ColBERT)
        texts = (tuple(encoder.fields), encoder.separator)
        names = TokenNames(encoder.shape, encoder.trained(data), view.products(data), texts)
        return encoder.product_tokens(data), names

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        products, names = self._tokens(data)
        feedback = Feedback(runtime.get(products), runtime.get(names), self._numbers)
        live, index = self.encoder.live(runtime, data), runtime.get(self._index(data))
        yield _FeedbackSearcher(live, index, feedback, request.query.reader(runtime), runtime)

    def label(self) -> str:
        counts = f"{self.documents} products, {self.terms} vectors, beta {self.beta:g}"
        return f"{super().label()} + feedback ({counts})"


@dataclass(frozen=True)
class Numbers(Recipe):
    """See `ColbertFeedback`."""

    documents: int
    clusters: int
    terms: int
    beta: float


@dataclass(frozen=True)
class Feedback:
    """Products' vectors; the tokens that they are of, and each token's idf; and the numbers."""

    products: TokenEmbeddings
    names: tuple[np.ndarray, np.ndarray]
    numbers: Numbers

    def joined(self, queries: TokenEmbeddings, rows: np.ndarray) -> TokenEmbeddings:
        """The queries with the weighted vectors of what they found.

        Args:
            queries: Q queries' vectors.
            rows: Q×k products that were found first, -1 padded.

        Returns:
            Q queries' vectors; not of unit length where they were fed back.
        """
        own = [queries.of(number) for number in range(len(queries))]
        if self.numbers.beta:
            gained = [self._gained(found[found >= 0][: self.numbers.documents]) for found in rows]
            own = [np.concatenate(pair) for pair in zip(own, gained, strict=True)]
        offsets = offsets_of(np.array([len(vectors) for vectors in own]))
        return TokenEmbeddings(np.concatenate(own), offsets, queries.encoder)

    def _gained(self, rows: np.ndarray) -> np.ndarray:
        """terms×D centroids times beta times their weights, the heaviest first."""
        from sklearn.cluster import KMeans

        offsets = self.products.offsets
        places = np.concatenate(
            [np.arange(offsets[row], offsets[row + 1]) for row in rows] or [np.empty(0, np.int64)]
        ).astype(np.int64)
        vectors = np.asarray(self.products.vectors[places], dtype=np.float32)
        if not len(vectors):
            return vectors.reshape(0, self.products.vectors.shape[1])
        count = min(self.numbers.clusters, len(np.unique(vectors, axis=0)))
        means = KMeans(count, n_init=1, random_state=0).fit(vectors).cluster_centers_
        unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
        tokens, idf = self.names
        weights = idf[tokens[places[(unit @ vectors.T).argmax(axis=1)]]]
        best = np.lexsort((np.arange(count), -weights))[: self.numbers.terms]
        gained: np.ndarray = (self.numbers.beta * weights[best, None] * unit[best]).astype(
            np.float32
        )
        return gained


@dataclass(frozen=True)
class TokenNames(Artifact[tuple[np.ndarray, np.ndarray]]):
    """names.npy: the token of each of the products' vectors (int32); idf.npy: each token's log((N +
    1)/(N_t + 1))."""

    kind: ClassVar[str] = "token_names"
    shape: Any
    trained: Artifact[Path] | None
    data: Artifact[Dataset]
    texts: tuple[Any, ...]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        weights = None if self.trained is None else runtime.get(self.trained)
        tower = self.shape.live(weights, "fp32", runtime).tower
        tokens = tower.tokens(runtime.get(self.data).catalogue.all_texts(*self.texts), 1)
        kept = tower.kept.cpu().numpy()
        owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
        pairs = np.unique(tokens.ids * len(tokens) + owner)
        counts = np.bincount(pairs // len(tokens), minlength=len(kept))
        np.save(folder / "names.npy", tokens.ids[kept[tokens.ids]].astype(np.int32))
        np.save(folder / "idf.npy", np.log((len(tokens) + 1) / (counts + 1)))
        return {"tokens": int(kept[tokens.ids].sum())}

    def load(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        return np.load(folder / "names.npy", mmap_mode="r"), np.load(folder / "idf.npy")


@dataclass(frozen=True)
class FedBackTokens(Artifact[TokenEmbeddings]):
    """vectors.npy (S×D float32), offsets.npy: the queries after the first search."""

    kind: ClassVar[str] = "fed_back_tokens"
    queries: Artifact[TokenEmbeddings]
    index: Artifact[Any]
    products: Artifact[TokenEmbeddings]
    names: Artifact[tuple[np.ndarray, np.ndarray]]
    numbers: Numbers

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        queries, index = runtime.get(self.queries), runtime.get(self.index)
        products, names = runtime.get(self.products), runtime.get(self.names)
        rows, _, _ = index.search(queries, min(self.numbers.documents, len(products)), runtime)
        result = Feedback(products, names, self.numbers).joined(queries, rows)
        np.save(folder / "vectors.npy", result.vectors)
        np.save(folder / "offsets.npy", result.offsets)
        meta = json.dumps({"encoder": result.encoder})
        (folder / "embeddings.json").write_text(meta, encoding="utf-8")
        return {"shape": list(result.vectors.shape)}

    def load(self, folder: Path) -> TokenEmbeddings:
        return TokenEmbeddings.load(folder)


@dataclass(frozen=True)
class _FeedbackSearcher:
    live: Any
    index: Any
    feedback: Feedback
    query: Reader
    runtime: Runtime

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        joined = self.joined(self.query.texts(texts))
        rows, scores, _ = self.index.search(joined, k, self.runtime)
        return rows, scores

    def joined(self, texts: Sequence[str]) -> TokenEmbeddings:
        """Vectors of processed texts after the first search."""
        vectors, offsets = self.live.encode(list(texts), 0)
        # As they are stored for batches: in half precision.
        asked = TokenEmbeddings(
            np.asarray(vectors, np.float16), offsets, self.feedback.products.encoder
        )
        first = min(self.feedback.numbers.documents, len(self.feedback.products))
        rows, _, _ = self.index.search(asked, first, self.runtime)
        return self.feedback.joined(asked, rows)
