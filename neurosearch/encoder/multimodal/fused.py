"""Early fusion: one vector of a product's words and its picture, each with its weight.

z = norm([sqrt(a) w ; sqrt(1 - a) v]), so the inner product of two of them is a · cos(words) +
(1 - a) · cos(pictures): a mix of scores from one index. Each side of each modality is first centred
on its own mean (of the catalogue, of the train queries), because vectors of one kind crowd together
and far from another's (the modality gap, Liang et al. 2022). A product without a picture has its
words alone, and as a whole.

Late fusion of two lists, with its weight tuned on dev, is a hybrid of two dense retrievers; a
learnt gate between the modalities is encoder=multimodal/gated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import digest
from neurosearch.core.query import QueryProcessor
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.multimodal.aligned import Aligned
from neurosearch.encoder.multimodal.recipe import save_embeddings
from neurosearch.encoder.sentence import Sentence
from neurosearch.query.none import NoProcessing


@dataclass(frozen=True)
class Fused(Encoder):
    """Attributes:
    text: of products' words and of queries.
    image: the second view: an encoder that queries can be asked with (`aligned`, `clip_text`, or
        `image` where queries have pictures); an encoder of another text field will do as well.
    text_share: a, the weight of the words' cosine.
    centred: on the means of the catalogue and of the train queries, each side on its own.
    """

    text: Encoder = field(default_factory=Sentence)
    image: Encoder = field(kw_only=True)
    text_share: float = setting(0.5, least=0, most=1)
    centred: bool = True

    keeps_half: ClassVar[bool] = False

    def views(self, data: Artifact[Dataset]) -> tuple[Artifact[Embeddings], Artifact[Embeddings]]:
        """Vectors of the products' words and pictures, as they are before they are joined."""
        return self.text.product_embeddings(data), self.image.product_embeddings(data)

    def identity(self, data: Artifact[Dataset]) -> str:
        spaces = self.text.identity(data), self.image.identity(data)
        return digest([*spaces, self.text_share, self.centred])

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        return self._joined(data, self.views(data), self.views(data))

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        views = self._query_views(data, split, query)
        return self._joined(data, views, self._query_views(data, "train", query))

    def _query_views(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> tuple[Artifact[Embeddings], Artifact[Embeddings]]:
        text, image = (view.query_embeddings(data, split, query) for view in self._members)
        return text, image

    def _joined(
        self,
        data: Artifact[Dataset],
        parts: tuple[Artifact[Embeddings], Artifact[Embeddings]],
        centres: tuple[Artifact[Embeddings], Artifact[Embeddings]],
    ) -> Artifact[Embeddings]:
        about = centres if self.centred else None
        return Joined(parts, about, self.text_share, self.identity(data))

    @property
    def reads_words(self) -> bool:
        return self.text.reads_words and self.image.reads_words

    def loaded(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveEncoder:
        members = [view.loaded(runtime, data) for view in self._members]
        means = [np.zeros(1, np.float32)] * 2
        if self.centred:
            views = self._query_views(data, "train", NoProcessing())
            means = [mean_of(runtime.get(view).vectors) for view in views]
        return _LiveFused(members, means, self.text_share)

    @property
    def _members(self) -> tuple[Encoder, Encoder]:
        return self.text, self.image

    def label(self) -> str:
        query_view = getattr(self.image, "queries", "text")
        message = "words and pictures" if query_view == "image" else "words"
        return f"Early fusion, {message}" if isinstance(self.image, Aligned) else "Early fusion"


@dataclass(frozen=True)
class Joined(Artifact[Embeddings]):
    """N×(D+E) vectors.npy of two views."""

    kind: ClassVar[str] = "embeddings"
    parts: tuple[Artifact[Embeddings], Artifact[Embeddings]]
    centres: tuple[Artifact[Embeddings], Artifact[Embeddings]] | None
    text_share: float
    identity: str

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        views = [np.asarray(runtime.get(part).vectors) for part in self.parts]
        means = [np.zeros(1, np.float32)] * 2
        if self.centres is not None:
            means = [mean_of(runtime.get(centre).vectors) for centre in self.centres]
        return save_embeddings(joined(views, means, self.text_share), self.identity, folder)

    def load(self, folder: Path) -> Embeddings:
        return Embeddings.load(folder)


def mean_of(vectors: np.ndarray) -> np.ndarray:
    """The mean of the vectors that are not all zeros."""
    there = (vectors != 0).any(axis=1)
    mean: np.ndarray = vectors[there].mean(axis=0) if there.any() else vectors[:1].sum(axis=0)
    return mean


def joined(
    views: Sequence[np.ndarray], means: Sequence[np.ndarray], text_share: float
) -> np.ndarray:
    """Unit vectors of both views; a view that is all zeros leaves its weight to the other."""
    blocks = []
    weights = text_share**0.5, (1 - text_share) ** 0.5
    for vectors, mean, weight in zip(views, means, weights, strict=True):
        there = (vectors != 0).any(axis=1, keepdims=True)
        moved = (vectors - mean) * there
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        blocks.append(weight * moved / np.maximum(length, 1e-12))
    whole = np.concatenate(blocks, axis=1)
    length = np.linalg.norm(whole, axis=1, keepdims=True)
    unit: np.ndarray = (whole / np.maximum(length, 1e-12)).astype(np.float32)
    return unit


class _LiveFused:
    def __init__(
        self, members: list[LiveEncoder], means: list[np.ndarray], text_share: float
    ) -> None:
        self._members, self._means, self._text_share = members, means, text_share
        self.dimensions = sum(live.dimensions for live in members)

    def for_products(self) -> LiveEncoder:
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return self._members[0].lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        views = [live.encode(texts) for live in self._members]
        return joined(views, self._means, self._text_share)

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return (self.encode(texts) for texts in collections)
