"""Published cross-encoders as they are: nothing is trained (Nogueira and Cho 2019).

A folder or hub name of a model that classifies pairs of texts: its own head, token types, longest
input and activation. Other models that sentence-transformers' `CrossEncoder` loads are computed by
it, such as language models whose score is the log-odds of "yes" and "no" (Qwen3-Reranker).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.recipe import PRECISIONS
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.encoder.sentence import model_label
from neurosearch.nn.pretrained import ALLOWED, weights_digest
from neurosearch.reranker.base import LiveScorer, PairScores, Reranker


@dataclass(frozen=True)
class Published(Reranker):
    """Attributes:
    model: a local folder, or a name on the hub.
    fields, separator: of a product, joined into the text that is read.
    max_length: tokens of a pair; None for the model's own limit.
    label_number: of the label whose score counts, of a model with several.
    instruction: before the pair, of a model that takes one; None for its own.
    precision: of the network: `fp32` or `bf16`.
    allow: `pickle`: weights that may hold code; `remote_code`: code that a model brings.
    """

    model: str = content(weights_digest, default="cross-encoder/ms-marco-MiniLM-L6-v2")
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    max_length: int | None = setting(None, least=4)
    label_number: int | None = setting(None, least=0)
    instruction: str | None = None
    precision: str = setting("fp32", choices=PRECISIONS)
    allow: tuple[str, ...] = setting((), choices=ALLOWED)

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
        return PublishedScores(candidates, request.view(data), request, self)

    def live(
        self, data: Artifact[Dataset], request: RetrievalRequest, first: Retriever, runtime: Runtime
    ) -> LiveScorer:
        scorer = self.loaded(runtime)
        products = runtime.get(data).catalogue.all_texts(self.fields, self.separator)

        def score(texts: list[str], pairs: pl.DataFrame) -> np.ndarray:
            rows = pairs["row"].to_list()
            queries = [texts[number] for number in pairs["query"].to_list()]
            scores: np.ndarray = scorer.scores(queries, [products[row] for row in rows])
            return scores

        return score

    def loaded(self, runtime: Runtime) -> Any:
        """The model on the runtime's device, with `scores(queries, products)`.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            The published model.
        """
        from neurosearch.nn.pair_classifier import load_pair_scorer

        return load_pair_scorer(self, runtime)

    def label(self) -> str:
        return f"{model_label(self.model)} zero-shot"


@dataclass(frozen=True)
class PublishedScores(PairScores):
    reranker: Published

    def score(self, query: np.ndarray, row: np.ndarray, runtime: Runtime) -> np.ndarray:
        data = runtime.get(self.data)
        texts = self.request.processed(data, runtime).texts
        products = data.catalogue.all_texts(self.reranker.fields, self.reranker.separator)
        scorer = self.reranker.loaded(runtime)
        scores: np.ndarray = scorer.scores([texts[n] for n in query], [products[n] for n in row])
        return scores
