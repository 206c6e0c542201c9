"""Cosines of a (bigger) bi-encoder, for the candidates only: its catalogue is never encoded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder, pair_cosines
from neurosearch.encoder.sentence import Sentence
from neurosearch.reranker.base import LiveScorer, PairScores, Reranker


@dataclass(frozen=True)
class BiEncoderReranker(Reranker):
    encoder: Encoder = field(default_factory=Sentence)

    def scores(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[Run]:
        return CosineScores(candidates, request.view(data), request, self.encoder)

    def live(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever, runtime: Runtime
    ) -> LiveScorer:
        cosines = LiveCosines(self.encoder, data, runtime)

        def score(texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
            return cosines.scores(texts, pairs["query"].to_numpy(), pairs["row"].to_numpy())

        return score

    def label(self) -> str:
        return self.encoder.label()


@dataclass(frozen=True)
class CosineScores(PairScores):
    encoder: Encoder

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        texts = self.request.processed(runtime.get(self.data), runtime).texts
        return LiveCosines(self.encoder, self.data, runtime).scores(texts, query, row)


class LiveCosines:
    """The loaded encoder, and the catalogue's texts."""

    def __init__(self, encoder: Encoder, data: Artifact[Dataset], runtime: Runtime) -> None:
        # One encoder for each side: `for_products` switches an encoder for good.
        self._asked = encoder.loaded(runtime, data)
        self._shown = encoder.loaded(runtime, data).for_products()
        catalogue = runtime.get(data).catalogue
        self._products = catalogue.all_texts(encoder.fields, encoder.separator)

    def scores(self, texts: list[str], query: np.ndarray, row: np.ndarray) -> np.ndarray:
        """P cosines; only products of the pairs are encoded."""
        query_vectors = self._asked.encode(texts)
        rows, place = np.unique(row, return_inverse=True)
        products = self._shown.encode([self._products[number] for number in rows])
        return pair_cosines(query_vectors, products, query, place)
