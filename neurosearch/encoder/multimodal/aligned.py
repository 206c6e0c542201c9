"""A small CLIP: a text encoder and an image encoder, frozen, with trained heads.

What makes words find pictures where no weights of CLIP or SigLIP are at hand. The heads learn
from products' own words and pictures and from train queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.digests import digest
from neurosearch.core.query import QueryProcessor
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.encoder.clip import check_sides, told_sides
from neurosearch.encoder.multimodal.recipe import Headed, HeadEmbeddings, Parts, TrainedHeads


@dataclass(frozen=True)
class Aligned(Headed):
    """Attributes:
    queries, products: which of the two each side shows: `text` or `image`.
    """

    gated: ClassVar[bool] = False
    queries: str = "text"
    products: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(self.queries, self.products)

    def heads(self, data: Artifact[Dataset]) -> TrainedHeads:
        """The trained heads: `query` of words, `product` of pictures."""
        data = view.before(data)
        query = self.query.fitted(data)
        train, dev = (
            (self.text.query_embeddings(data, split, query), None) for split in ("train", "dev")
        )
        source, parts = view.learning(data), self.product_parts(data)
        return TrainedHeads(replace(self.training, query=query), source, train, dev, parts)

    def identity(self, data: Artifact[Dataset]) -> str:
        plain = replace(self, queries="text", products="image")  # one space for all
        return digest([plain.fingerprint, self.heads(data).artifact_fingerprint])

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        if self.products == "image":
            return self._embeddings(data, "product", (None, self.image.product_embeddings(data)))
        return self._embeddings(data, "query", (self.text.product_embeddings(data), None))

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        if self.queries == "image":
            pictures = self.image.query_embeddings(data, split, query)
            return self._embeddings(data, "product", (None, pictures))
        return self._embeddings(
            data, "query", (self.text.query_embeddings(data, split, query), None)
        )

    def _embeddings(self, data: Artifact[Dataset], tower: str, parts: Parts) -> HeadEmbeddings:
        return HeadEmbeddings(self.heads(data), tower, parts, self.identity(data))

    @property
    def reads_words(self) -> bool:
        return self.queries == "text" and self.text.reads_words

    def loaded(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveEncoder:
        if self.queries == "image":
            return self.image.loaded(runtime, data)  # says that live queries are words
        words = self.text.loaded(runtime, data)
        return LiveParts(words, None, runtime.get(self.heads(data))["query"])

    def label(self) -> str:
        return f"Aligned, {told_sides(self.queries, self.products)}"


class LiveParts:
    """Live words through a tower of heads; `widths` of the parts, where the tower wants both."""

    def __init__(self, words: LiveEncoder, widths: tuple[int, int] | None, tower: Any) -> None:
        self._words, self._widths, self._tower = words, widths, tower
        self.dimensions: int = self.encode(["a"]).shape[1]

    def for_products(self) -> LiveEncoder:
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return self._words.lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        from neurosearch.encoder.multimodal.network import tower_vectors

        vectors = torch.from_numpy(self._words.encode(texts))
        width = 1 if self._widths is None else self._widths[1]
        return tower_vectors(self._tower, [vectors, torch.zeros(len(texts), width)])

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return (self.encode(texts) for texts in collections)
