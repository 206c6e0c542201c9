"""Cosines of a (bigger) bi-encoder, for the candidates only: its catalogue is never encoded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neurosearch.artifact import Artifact
from neurosearch.encoder.base import Encoder, pair_cosines
from neurosearch.encoder.transformer import SentenceEncoder
from neurosearch.reranker.base import PairScores, Reranker
from neurosearch.retriever.base import Retriever, Topics
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Run


@dataclass(frozen=True)
class BiEncoderReranker(Reranker):
    encoder: Encoder = field(default_factory=SentenceEncoder)

    def scores(
        self, candidates: Artifact[Run], data: Artifact[Dataset], topics: Topics, first: Retriever
    ) -> Artifact[Run]:
        return CosineScores(candidates, data, topics, self.encoder)

    def label(self) -> str:
        return self.encoder.label()


@dataclass(frozen=True)
class CosineScores(PairScores):
    encoder: Encoder

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        data, encoder = runtime.get(self.data), self.encoder
        live = encoder.loaded(runtime, self.data)
        texts = [encoder.query_prefix + text for text in self.topics.queries(data).texts]
        asked = live.encode(texts)
        rows, place = np.unique(row, return_inverse=True)
        wanted = set(rows.tolist())
        shown, number = [], 0
        for batch in data.catalogue.texts(encoder.fields, encoder.separator):
            for text in batch:
                if number in wanted:
                    shown.append(encoder.product_prefix + text)
                number += 1
        products = live.for_products().encode(shown)
        return pair_cosines(asked, products, query, place)
