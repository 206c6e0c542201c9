"""Late interaction over any run's candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.encoder.colbert.base import TokenEncoder
from neurosearch.reranker.base import LiveScorer, PairScores, Reranker


@dataclass(frozen=True)
class MaxSim(Reranker):
    encoder: TokenEncoder = field(kw_only=True)

    def scores(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[Run]:
        queries = self.encoder.query_tokens(data, request.split, request.query)
        products = self.encoder.product_tokens(data)
        return MaxSimScores(candidates, request.view(data), request, queries, products)

    def serving(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever
    ) -> list[Any]:
        return [self.encoder.product_tokens(data)]

    def live(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever, runtime: Runtime
    ) -> LiveScorer:
        from neurosearch.index.multivector import ragged
        from neurosearch.nn.maxsim import pair_scores

        encoder = self.encoder.live(runtime, data)
        shown = ragged(runtime.get(self.encoder.product_tokens(data)), encoder.device)

        def score(texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
            query, row = pairs["query"].to_numpy(), pairs["row"].to_numpy()
            vectors, offsets = encoder.encode(texts, 0)
            query_tokens = TokenEmbeddings(vectors, offsets, "")
            return pair_scores(ragged(query_tokens, encoder.device), shown, query, row)

        return score

    def label(self) -> str:
        return f"MaxSim of {self.encoder.label()}"


@dataclass(frozen=True)
class MaxSimScores(PairScores):
    queries: Artifact[TokenEmbeddings]
    products: Artifact[TokenEmbeddings]

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        from neurosearch.index.multivector import ragged
        from neurosearch.nn.maxsim import pair_scores

        device = runtime.torch_device()
        queries, shown = (ragged(runtime.get(x), device) for x in (self.queries, self.products))
        return pair_scores(queries, shown, query, row)
