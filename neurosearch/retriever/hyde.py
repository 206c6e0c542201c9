"""HyDE (Gao et al. 2023): a writer makes up products for a query, and their vectors search too.

    q' = weight · E(query) + (1 - weight) · mean E(h_i), scaled to length 1

with h_1 … h_n the texts that are written for the query, read as products are. A text that is empty
counts as not written; a query without any keeps its own vector.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import NO_IDENTITY, Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.query import Reader
from neurosearch.core.retrieval import RetrievalRequest, Searcher
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.index.live import LiveIndex
from neurosearch.retriever.dense import Dense
from neurosearch.writer.base import Writer

PROMPT = (
    "A customer of an online shop searches for: {query}\n"
    "Write the title of a product that fits, and nothing else."
)
FAILURES = 0.05  # share of the texts that may fail


@dataclass(frozen=True)
class Hyde(Dense):
    """Attributes:
    writer: of the texts; with more than one sample, its temperature should be above 0.
    prompt: with {query}.
    samples: texts of a query.
    weight: of the query's own vector; 1 for no texts at all.
    The rest: see `Dense`.
    """

    writer: Writer = field(kw_only=True)
    prompt: str = PROMPT
    samples: int = setting(2, least=1)
    weight: float = setting(0.5, least=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if "{query}" not in self.prompt:
            raise InputError("retriever.prompt does not say where {query} goes")
        if not self.encoder.reads_words:
            raise self.error("encoder", "reads no words, so nothing can be written for it")

    def _prompts(self, texts: Sequence[str]) -> list[str]:
        """What the writer reads, for processed queries."""
        return [self.prompt.replace("{query}", text) for text in texts]

    def _queries(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Embeddings]:
        typed = super()._queries(data, request)
        recipe = replace(self, writer=self.writer.fitted(data))
        return WrittenQueries(typed, request.view(data), data, request, recipe)

    def serving(self, data: Artifact[Dataset], request: RetrievalRequest) -> list[Artifact[Any]]:
        return [*super().serving(data, request), *self.writer.fitted(data).serving()]

    @contextmanager
    def searcher(
        self, data: Artifact[Dataset], request: RetrievalRequest, runtime: Runtime
    ) -> Iterator[Searcher]:
        index = runtime.get(self._index(data)).on(runtime)
        encoder, query = self.encoder.loaded(runtime, data), request.query.reader(runtime)
        recipe = replace(self, writer=self.writer.fitted(data))
        written = _Written.of(recipe, data, runtime)
        yield _HydeSearcher(self.encoder.identity(data), encoder, written, index, query)

    def label(self) -> str:
        return f"{super().label()} + HyDE ({self.writer.label()}, {self.samples} texts)"


@dataclass(frozen=True)
class _Written:
    """What is written for queries. It has an encoder of its own, which reads products."""

    recipe: Hyde
    products: LiveEncoder
    runtime: Runtime

    @classmethod
    def of(cls, recipe: Hyde, data: Artifact[Dataset], runtime: Runtime) -> _Written:
        return cls(recipe, recipe.encoder.loaded(runtime, data).for_products(), runtime)

    def moved(
        self, vectors: np.ndarray, texts: Sequence[str], is_live: bool
    ) -> tuple[np.ndarray, int]:
        """Q×D vectors of length 1, and how many texts were empty."""
        recipe = self.recipe
        failures = 0.0 if is_live else FAILURES
        written = recipe.writer.write(
            recipe._prompts(texts), self.runtime, recipe.samples, failures, is_live
        )
        lines = [[" ".join(text.split()) for text in own] for own in written]
        distinct = sorted({text for own in lines for text in own if text})
        products = self.products.encode(distinct) if distinct else None
        place = {text: number for number, text in enumerate(distinct)}
        result = np.array(vectors, dtype=np.float32)
        for number, own in enumerate(lines):
            there = [place[text] for text in own if text]
            if there and products is not None:
                mean = products[there].mean(axis=0)
                result[number] = recipe.weight * result[number] + (1 - recipe.weight) * mean
        lengths = np.linalg.norm(result, axis=1, keepdims=True)
        empty = sum(not text for own in lines for text in own)
        return result / np.maximum(lengths, 1e-12), empty


@dataclass(frozen=True)
class WrittenQueries(Artifact[Embeddings]):
    """vectors.npy: the queries' vectors with those of the texts written for them."""

    kind: ClassVar[str] = "written_queries"
    queries: Artifact[Embeddings]
    view: Artifact[Dataset]
    data: Artifact[Dataset] = field(metadata=NO_IDENTITY)  # that the encoder was trained on
    request: RetrievalRequest
    recipe: Hyde

    def check(self, runtime: Runtime) -> None:
        self.recipe.writer.check(runtime)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        queries = runtime.get(self.queries)
        texts = self.request.processed(runtime.get(self.view), runtime).texts
        written = _Written.of(self.recipe, self.data, runtime)
        vectors, empty = written.moved(np.asarray(queries.vectors), texts, False)
        np.save(folder / "vectors.npy", vectors)
        (folder / "embeddings.json").write_text(json.dumps({"encoder": queries.encoder}), "utf-8")
        return {"queries": len(vectors), "empty texts": empty}

    def load(self, folder: Path) -> Embeddings:
        return Embeddings.load(folder)


@dataclass(frozen=True)
class _HydeSearcher:
    identity: str
    encoder: LiveEncoder
    written: _Written
    index: LiveIndex
    query: Reader

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        read = self.query.texts(texts)
        moved, _ = self.written.moved(self.encoder.encode(read), read, True)
        return self.index.search(Embeddings(moved, self.identity), k)
