"""Pseudo-relevance feedback for BM25: a query gains terms of the products that it finds first.

With F the first products, tf(w, d) how often product d has w, |d| its length, s(d) its score, N the
number of products and cf(w) how often all have w, the `terms` highest weights are fed back:

* `rm3` (Abdul-Jaleel et al. 2004): r(w) = Σ_F tf(w, d)/|d| · s(d)/Σ s, scaled to sum 1;
  q' = (1 - weight) q + weight · |q| r.
* `rocchio` (Rocchio 1971): r is the mean of the products' tf vectors of length 1;
  q' = q + weight · ‖q‖ r.
* `bo1` (Amati 2003): r(w) = tf_F(w) log2((1 + P)/P) + log2(1 + P), P = cf(w)/N, scaled to a largest
  one of 1; q' = q + weight · r.

Weight 0 is BM25 itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.retrieval import RetrievalRequest, RunArtifact, Searcher
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import TEXT_FIELDS, Dataset
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.lexical import Words
from neurosearch.retriever import bm25
from neurosearch.retriever.bm25 import BM25

MODELS = ("rm3", "rocchio", "bo1")


@dataclass(frozen=True)
class Feedback(BM25):
    """Attributes:
    model: how terms are weighted, see above.
    documents: products of the first search that terms are taken of.
    terms: how many are fed back.
    weight: of what is fed back; for rm3 at most 1.
    The rest: see `BM25`.
    """

    model: str = setting("rm3", choices=MODELS)
    documents: int = setting(10, least=1)
    terms: int = setting(10, least=1)
    weight: float = setting(0.5, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model == "rm3" and self.weight > 1:
            raise self.error("weight", f"is {self.weight:g}; of rm3 it is a share, at most 1")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        first = self._first.run(data, replace(request, pool="catalogue"))
        indexes = tuple(self.indexes(data))
        return FeedbackRun(request.view(data), request, self, indexes, self._vectors(data), first)

    @property
    def _first(self) -> BM25:
        return BM25(self.engine, self.k1, self.b, self.boosts, self.analyzer)

    def _vectors(self, data: Artifact[Dataset]) -> Artifact[LiveTerms]:
        return TermVectors(view.products(data), self.analyzer)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [*self.indexes(data), self._vectors(data)]

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        vectors = runtime.get(self._vectors(data))
        with self._first.searcher(data, request, runtime) as live:
            yield _FeedbackSearcher(self, live, vectors)

    def label(self) -> str:
        names = {"rm3": "RM3", "rocchio": "Rocchio", "bo1": "Bo1"}
        counts = f"{self.documents} products, {self.terms} terms, weight {self.weight:g}"
        return f"{super().label()} + {names[self.model]} ({counts})"


@dataclass(frozen=True)
class LiveTerms:
    """The terms of all products: N×V counts in SciPy's CSR form, and the terms' names."""

    counts: Any
    names: list[str]

    def fed_back(
        self, recipe: Feedback, words: Words, rows: np.ndarray, scores: np.ndarray
    ) -> Words:
        """The query after a first search.

        Args:
            recipe: the model and its numbers.
            words: weighted tokens of the query.
            rows, scores: of the first products; a query that finds nothing stays as it is.

        Returns:
            Weighted tokens.
        """
        rows, scores = rows[: recipe.documents], scores[: recipe.documents].astype(np.float64)
        if not len(rows) or not recipe.weight:
            return words
        found = self.counts[rows]
        columns = np.unique(found.indices)
        frequency = found[:, columns].toarray().astype(np.float64)
        weights = self._weights(recipe.model, frequency, columns, scores)
        order = sorted(range(len(columns)), key=lambda n: (-weights[n], self.names[columns[n]]))
        best = order[: recipe.terms]
        given = np.fromiter(words.values(), np.float64, len(words))
        own, factor = 1.0, recipe.weight
        if recipe.model == "rm3":
            own, factor = 1 - recipe.weight, recipe.weight * given.sum() / weights[best].sum()
        elif recipe.model == "rocchio":
            factor *= float(np.linalg.norm(given))
        else:
            factor /= weights[best].max()
        result = {token: own * weight for token, weight in words.items() if own}
        for n in best:
            token = self.names[columns[n]]
            result[token] = result.get(token, 0.0) + factor * float(weights[n])
        return result

    def _weights(
        self, model: str, frequency: np.ndarray, columns: np.ndarray, scores: np.ndarray
    ) -> np.ndarray:
        """Of each term: frequency is F×V, for the V terms of `columns`."""
        if model == "rm3":
            relative = frequency / frequency.sum(axis=1, keepdims=True)
            result: np.ndarray = (scores / scores.sum()) @ relative
            return result
        if model == "rocchio":
            unit = frequency / np.linalg.norm(frequency, axis=1, keepdims=True)
            return np.asarray(unit.mean(axis=0))
        share = np.asarray(self.counts[:, columns].sum(axis=0)).ravel() / self.counts.shape[0]
        return np.asarray(frequency.sum(axis=0) * np.log2((1 + share) / share) + np.log2(1 + share))


@dataclass(frozen=True)
class TermVectors(Artifact[LiveTerms]):
    """terms.npz and names.json: how often each product has which term, in all its fields."""

    kind: ClassVar[str] = "terms"
    data: Artifact[Dataset]
    analyzer: Analyzer

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from scipy.sparse import csr_matrix, save_npz

        catalogue = runtime.get(self.data).catalogue
        tokenizer, numbers = self.analyzer.tokenizer(), dict[str, int]()
        indices: list[int] = []
        offsets = [0]
        with runtime.progressing("terms of products", len(catalogue)) as advance:
            for texts in catalogue.texts(TEXT_FIELDS):
                for tokens in tokenizer(texts):
                    indices += [numbers.setdefault(token, len(numbers)) for token in tokens]
                    offsets.append(len(indices))
                advance(len(texts))
        ones = np.ones(len(indices), np.int32)
        shape = len(catalogue), max(1, len(numbers))
        counts = csr_matrix((ones, np.array(indices, np.int32), np.array(offsets)), shape)
        counts.sum_duplicates()
        save_npz(folder / "terms.npz", counts)
        (folder / "names.json").write_text(json.dumps(list(numbers)), encoding="utf-8")
        return {"products": shape[0], "terms": len(numbers)}

    def load(self, folder: Path) -> LiveTerms:
        from scipy.sparse import load_npz

        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        return LiveTerms(load_npz(folder / "terms.npz"), names)


@dataclass(frozen=True)
class FeedbackRun(RunArtifact):
    """The second search of a split's queries. Inputs: the first one, and what it needs."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    recipe: Feedback
    indexes: tuple[Artifact[Any], ...]
    vectors: Artifact[LiveTerms]
    first: Artifact[Run]

    def answer(self, runtime: Runtime) -> Run:
        data, vectors = runtime.get(self.data), runtime.get(self.vectors)
        queries = self.request.queries(data)
        typed = bm25.looked_up(self.recipe.analyzer, self.request, queries, runtime)
        first = numbered_pairs(runtime.get(self.first), queries.ids, data.catalogue.ids)
        lists = {
            query: (part["row"].to_numpy(), part["score"].to_numpy())
            for (query,), part in first.group_by("query", maintain_order=True)
        }
        nothing = np.empty(0, np.int64), np.empty(0)
        words = [
            vectors.fed_back(self.recipe, own, *lists.get(query, nothing))
            for query, own in enumerate(typed)
        ]
        return bm25.search(self.recipe, self.indexes, data, self.request, runtime, words)


@dataclass(frozen=True)
class _FeedbackSearcher:
    recipe: Feedback
    live: Any  # BM25's searcher
    vectors: LiveTerms

    def typed(self, text: str) -> Words:
        """Weighted tokens before the first search."""
        (words,) = self.live.words([text])
        return dict(words)

    def words(self, texts: Sequence[str]) -> list[Words]:
        """Weighted tokens after the first search."""
        typed = self.live.words(texts)
        found = self.live.by_words(typed, self.recipe.documents)
        return [
            self.vectors.fed_back(self.recipe, own, rows[rows >= 0], scores[rows >= 0])
            for own, rows, scores in zip(typed, *found, strict=True)
        ]

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        result: tuple[np.ndarray, np.ndarray] = self.live.by_words(self.words(texts), k)
        return result
