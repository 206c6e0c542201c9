"""Re-rankers of a service: Cohere's, or text-embeddings-inference, and what speaks so.

Off by default: it costs money and sends queries and products to the service's operator. Scores are
kept under outputs/answers by service, model, query and product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.endpoint import Answers, Service, check_budget, key_of
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.reranker.base import LiveScorer, PairScores, Reranker

APIS = ("cohere", "tei")


@dataclass(frozen=True)
class Endpoint(Reranker):
    """Attributes:
    model: as the service calls it.
    endpoint: the base URL; the key is in the environment variable that `key` names.
    api: whose protocol: `cohere` or `tei`.
    batch_size: products of a call; text-embeddings-inference takes 32 unless told otherwise.
    budget: pairs that may be sent for this model, at most, those of earlier runs included.
    fields, separator: of a product, joined into the text that is sent.
    timeout: seconds, of a call, which holds a query with its products.
    """

    model: str = ""
    endpoint: str = "http://localhost:8080"
    api: str = setting("tei", choices=APIS)
    key: str = setting("COHERE_API_KEY", identity=False)
    batch_size: int = setting(32, least=1, identity=False)
    budget: int = setting(10_000, least=0, identity=False)
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    timeout: float = setting(60.0, above=0, identity=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("reranker.fields", self.fields)

    def scores(
        self,
        candidates: Artifact[Run],
        data: Artifact[Dataset],
        request: RetrievalRequest,
        first: Retriever,
    ) -> Artifact[Run]:
        return EndpointScores(candidates, request.view(data), request, self)

    def live(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever, runtime: Runtime
    ) -> LiveScorer:
        products = runtime.get(data).catalogue.all_texts(self.fields, self.separator)

        def score(texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
            query, row = pairs["query"].to_numpy(), pairs["row"].to_numpy()
            return self.asked(texts, products, query, row, runtime, is_live=True)

        return score

    def service(self) -> Service:
        """Where pairs are sent."""
        return Service("reranker", self.endpoint, self.key, self.timeout)

    def answers(self, runtime: Runtime) -> Answers:
        """The scores that are kept."""
        name = key_of(self.endpoint, self.model)[:12]
        return Answers(runtime.outputs / "answers" / f"scores-{name}.sqlite")

    def asked(
        self,
        queries: list[str],
        products: list[str],
        query: np.ndarray,
        row: np.ndarray,
        runtime: Runtime,
        is_live: bool = False,
    ) -> np.ndarray:
        """P float64 scores of P (query number, product row) pairs; a query is a call or more.

        `is_live`: all are sent, since what a kept answer takes is not the service's latency.
        """
        answers = self.answers(runtime)
        pairs = [(queries[q], products[r]) for q, r in zip(query, row, strict=True)]
        keys = [key_of(self.api, *pair) for pair in pairs]
        known = answers.known(keys)
        missing = {k: pair for k, pair in zip(keys, pairs, strict=True) if k not in known}
        if missing:
            counts = self.budget, len(missing), len(answers)
            check_budget(self.label(), "reranker.budget", *counts)
        if is_live:
            missing = dict(zip(keys, pairs, strict=True))
        by_query: dict[str, dict[str, str]] = {}
        for key, (text, product) in missing.items():
            by_query.setdefault(text, {})[key] = product
        with runtime.progressing("asking the service", len(missing)) as advance:
            for text, shown in by_query.items():
                for part in _batches(list(shown.items()), self.batch_size):
                    scores = self._called(text, [product for _, product in part])
                    fresh = {k: s.tobytes() for (k, _), s in zip(part, scores, strict=True)}
                    answers.keep(fresh)
                    known |= fresh
                    advance(len(fresh))
        return np.array([np.frombuffer(known[k], np.float64)[0] for k in keys])

    def _called(self, query: str, products: list[str]) -> np.ndarray:
        """The scores of one query's products, in their order."""
        service = self.service()
        body: dict[str, Any] = {"query": query}
        if self.api == "tei":
            body |= {"texts": products, "raw_scores": False, "truncate": True}
        else:
            body |= {"model": self.model, "documents": products, "top_n": len(products)}
        answer = service.post("rerank", body)
        try:
            rows = answer if self.api == "tei" else answer["results"]
            name = "score" if self.api == "tei" else "relevance_score"
            by_place = {int(row["index"]): float(row[name]) for row in rows}
            scores = np.array([by_place[n] for n in range(len(products))])
        except (LookupError, TypeError, ValueError) as error:
            raise service.refused(f"no scores came back ({error!r})") from None
        if not np.isfinite(scores).all():
            raise service.refused("a score is no number")
        return scores

    def label(self) -> str:
        return f"{self.model or self.api} (endpoint)"


def _batches(pairs: list[tuple[str, str]], size: int) -> list[list[tuple[str, str]]]:
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]


@dataclass(frozen=True)
class EndpointScores(PairScores):
    reranker: Endpoint

    def check(self, runtime: Runtime) -> None:
        super().check(runtime)
        # Kept answers may be all that is needed, and need no service.
        if not len(self.reranker.answers(runtime)):
            self.reranker.service().check()

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        data = runtime.get(self.data)
        texts = self.request.processed(data, runtime).texts
        products = data.catalogue.all_texts(self.reranker.fields, self.reranker.separator)
        return self.reranker.asked(texts, products, query, row, runtime)
