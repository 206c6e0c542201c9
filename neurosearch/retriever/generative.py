"""Generative retrieval: a model writes semantic IDs, a search keeps it to those of the catalogue.

The beam is as wide as the lists of a run are long, so k products come back where the catalogue
has them; products that share an ID come in the order of their vectors. Unconstrained, invalid
IDs are thrown away and lists are shorter: what the constraint is worth.

With a `cosine_weight` the products of all beams compete by log p(ID) + weight · cosine (the fusion
of COBRA, arXiv 2503.02453): a coarse ID narrows the catalogue down, the vector ranks what is left.
The inverse of the encoder's training temperature puts both on one scale.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.exportable import Exportable
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
from neurosearch.evaluation.generation import GenerationMetrics
from neurosearch.generator.base import CodeModelFiles, Generator
from neurosearch.generator.continued import decoder_of
from neurosearch.generator.expansion import IN_BUCKETS
from neurosearch.generator.live import LiveGenerator
from neurosearch.generator.written import Written
from neurosearch.tokenizer.base import SemanticTokenizer


@dataclass(frozen=True)
class Generative(Retriever):
    """Attributes:
    tokenizer: whose IDs are written; its encoder's vectors order products.
    beam: null for the depth of the evaluation's lists, in live answers too; with a narrower one
        lists may be shorter.
    constrained: to the catalogue's IDs.
    cosine_weight: null to order the products of an ID only.
    """

    generator: Generator = field(kw_only=True)
    tokenizer: SemanticTokenizer = field(kw_only=True)
    beam: int | None = None
    constrained: bool = True
    cosine_weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam is not None and self.beam < 1:
            raise self.error("beam", f"must be at least 1, not {self.beam}")
        if self.cosine_weight is not None and self.cosine_weight < 0:
            raise self.error("cosine_weight", f"is {self.cosine_weight}, less than 0")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        ids, trained = self._parts(data)
        encoder = self.tokenizer.encoder
        queries = encoder.query_embeddings(data, request.split, request.query)
        products = encoder.product_embeddings(data)
        if request.pool == "judged":
            weight = self._limits(request)[2]
            pooled = ids, trained, queries, products, weight
            return GenerativePoolRun(request.view(data), request, *pooled)
        parts = ids, trained, queries, products, *self._limits(request)
        return GenerativeRun(request.view(data), request, *parts)

    def diagnosis(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Any] | None:
        if request.pool == "judged":
            return None
        pool = view.with_queries(data, request.split, pool=True)
        written = Written(pool, request, *self._parts(data))
        return GenerationMetrics.of(data, request.split, written, self.generator.gain)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [*self._parts(data), self.tokenizer.encoder.product_embeddings(data)]

    def exports(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Mapping[str, Exportable]:
        encoder = self.tokenizer.encoder.exported(data)
        parts = {} if encoder is None else {"tokenizer.encoder": encoder}
        if not self.generator.is_t5:
            return parts

        def write(folder: Path, runtime: Runtime) -> None:
            from neurosearch.generator.export import save_t5

            ids, trained = self._parts(data)
            network, products = runtime.get(trained).network(), runtime.get(data).catalogue.ids
            save_t5(network, runtime.get(ids), products, folder)

        lines = (
            "from transformers import AutoTokenizer, T5ForConditionalGeneration",
            "",
            'tokenizer = AutoTokenizer.from_pretrained("this/folder")',
            'model = T5ForConditionalGeneration.from_pretrained("this/folder")',
            "levels = [",
            '    [n for t, n in tokenizer.get_vocab().items() if t.startswith(f"<{letter}_")]',
            f'    for letter in "{string.ascii_lowercase[: self.tokenizer.levels + 1]}"',
            "]",
            "levels = [tokens for tokens in levels if tokens]",
            "codes = model.generate(",
            '    **tokenizer("query", return_tensors="pt"),',
            "    max_new_tokens=len(levels),",
            "    prefix_allowed_tokens_fn=lambda _, codes: levels[len(codes) - 1],",
            ")",
            "print(tokenizer.convert_ids_to_tokens(codes[0, 1:]))",
        )
        note = (
            "Code 12 of the first level is the token `<a_12>`; products' IDs are in index.json and "
            "ids.csv. NeuroSearch's softmax is over the codes of a level that lead to a product."
        )
        base = getattr(self.generator, "model", "")
        label = f"{self.generator.label()} over {self.tokenizer.label()}"
        return {"generator": Exportable(label, "transformers", base, lines, write, note), **parts}

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        ids, trained = self._parts(data)
        encoder = self.tokenizer.encoder
        live = encoder.loaded(runtime, data)
        products = runtime.get(encoder.product_embeddings(data)).vectors
        model = LiveGenerator(runtime.get(trained), runtime.get(ids), runtime)
        limits = self._limits(request)
        yield _GenerativeSearcher(limits, model, live, products, request.query.reader(runtime))

    @property
    def is_live(self) -> bool:
        return self.generator.reads_words

    def _limits(self, request: RetrievalRequest) -> tuple[int, bool, float]:
        weight = IN_BUCKETS if self.cosine_weight is None else self.cosine_weight
        return self.beam or request.depth, self.constrained, weight

    def _parts(
        self, data: Artifact[Dataset]
    ) -> tuple[Artifact[SemanticIds], Artifact[CodeModelFiles]]:
        return decoder_of(self.generator, self.tokenizer, data)

    def label(self) -> str:
        name = f"{self.generator.label()} over {self.tokenizer.label()}"
        name += "" if self.cosine_weight is None else " + cosine"
        return name if self.constrained else f"{name}, unconstrained"


@dataclass(frozen=True)
class GenerativeRun(RunArtifact):
    """Retrieval from the catalogue."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    ids: Artifact[SemanticIds]
    trained: Artifact[CodeModelFiles]
    queries: Artifact[Embeddings]
    products: Artifact[Embeddings]
    beam: int
    constrained: bool
    cosine_weight: float

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        queries = self.request.processed(data, runtime)
        model = LiveGenerator(runtime.get(self.trained), runtime.get(self.ids), runtime)
        vectors = runtime.get(self.queries).vectors, runtime.get(self.products).vectors
        k = min(self.request.depth, len(data.catalogue))
        limits = self.beam, self.constrained, self.cosine_weight
        rows, scores = model.products(
            model.query_texts(queries, data.catalogue), k, *limits, vectors
        )
        return Run.from_arrays(rows, scores, queries, data.catalogue, self.request.depth)


@dataclass(frozen=True)
class GenerativePoolRun(RunArtifact):
    """The judged products in the order of their IDs' log-probabilities."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    ids: Artifact[SemanticIds]
    trained: Artifact[CodeModelFiles]
    queries: Artifact[Embeddings]
    products: Artifact[Embeddings]
    cosine_weight: float

    def answer(self, runtime: Runtime) -> Run:
        import polars as pl

        from neurosearch.generator.network import path_scores

        data, ids = runtime.get(self.data), runtime.get(self.ids)
        queries = self.request.processed(data, runtime)
        pool = judged_rows(queries, data)
        model = LiveGenerator(runtime.get(self.trained), ids, runtime)
        query_rows, rows = pool["query"].to_numpy(), pool["row"].to_numpy()
        codes = np.asarray(ids.codes)[rows]
        tokens = model.tokens(model.query_texts(queries, data.catalogue))
        scores = path_scores(model.network, tokens, query_rows, codes, model.device).sum(axis=1)
        texts, products = (runtime.get(x).vectors for x in (self.queries, self.products))
        scores = scores + self.cosine_weight * np.einsum(
            "nd,nd->n", texts[query_rows], products[rows]
        )
        frame = judged_ids(pool, queries, data).with_columns(pl.Series("score", scores))
        return Run.from_frame(frame, queries)


@dataclass(frozen=True)
class _GenerativeSearcher:
    limits: tuple[int, bool, float]
    model: LiveGenerator
    encoder: LiveEncoder
    vectors: np.ndarray
    query: Reader

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        processed = self.query.texts(texts)
        with stage("encode"):
            query_vectors = self.encoder.encode(processed)
        with stage("generate"):
            return self.model.products(processed, k, *self.limits, (query_vectors, self.vectors))
