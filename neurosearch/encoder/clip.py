"""CLIP, SigLIP and their like: words and pictures in one space (Radford et al. 2021; Zhai 2023).

Words ask for pictures by default; either side may be either (`queries`, `products`). Words are
cut at what the text tower reads (77 tokens in CLIP, 64 in SigLIP).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.digests import content
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.image import ImageEncoder
from neurosearch.encoder.sentence import model_label
from neurosearch.nn.pretrained import weights_digest
from neurosearch.nn.tokens import character_lengths

SIDES = ("text", "image")


@dataclass(frozen=True)
class ClipText(Encoder):
    """Attributes:
    model: a folder or hub name of a model with a text and a vision tower.
    queries, products: which of the two each side shows: `text` or `image`.
    """

    model: str = content(weights_digest, default="openai/clip-vit-base-patch32")
    queries: str = "text"
    products: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sides(self.queries, self.products)

    def identity(self, data: Artifact[Dataset]) -> str:
        return self.vision.fingerprint  # one space, whichever side is asked for

    @property
    def vision(self) -> ImageEncoder:
        """The encoder of pictures in the same space."""
        return ImageEncoder(model=self.model)

    def product_embeddings(self, data: Artifact[Dataset]) -> Artifact[Embeddings]:
        if self.products == "image":
            return self.vision.product_embeddings(data)
        return super().product_embeddings(data)

    def query_embeddings(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[Embeddings]:
        if self.queries == "image":
            return self.vision.query_embeddings(data, split, query)
        return super().query_embeddings(data, split, query)

    @property
    def reads_words(self) -> bool:
        return self.queries == "text"

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        return LiveWords(self.model, runtime)

    def label(self) -> str:
        name = model_label(self.model)
        return f"{name}, {told_sides(self.queries, self.products)}"


def check_sides(queries: str, products: str) -> None:
    """Raise InputError naming the config key of a side that is neither text nor image."""
    for key, side in (("queries", queries), ("products", products)):
        if side not in SIDES:
            raise InputError(f"encoder.{key} must be text or image, not {side!r}")


def told_sides(queries: str, products: str) -> str:
    """Such as `words to pictures`."""
    plain = {"text": ("words", "titles"), "image": ("pictures", "pictures")}
    return f"{plain[queries][0]} to {plain[products][1]}"


class LiveWords:
    """The text tower."""

    def __init__(self, model: str, runtime: Runtime) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        from neurosearch.nn.pretrained import WHOLE, model_source
        from neurosearch.nn.vision import pooled

        self._device, self._pooled = runtime.torch_device(), pooled
        with model_source("encoder.model", model) as source:
            self._network = AutoModel.from_pretrained(source, **WHOLE).to(self._device).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if not hasattr(self._network, "get_text_features"):
            kind = self._network.config.model_type
            raise InputError(f"encoder.model={model!r} is a {kind}, without a tower for words")
        self._longest: int = self._network.config.text_config.max_position_embeddings
        self._inference = torch.inference_mode
        self.dimensions: int = self.encode(["a"]).shape[1]

    def for_products(self) -> LiveEncoder:
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return character_lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch
        from torch.nn.functional import normalize

        parts = []
        for start in range(0, len(texts), 64):
            # SigLIP was trained on texts that are filled up to its full length.
            batch = self._tokenizer(
                list(texts[start : start + 64]),
                padding="max_length",
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            ).to(self._device)
            with self._inference():
                vectors = self._pooled(self._network.get_text_features(**batch))
                parts.append(normalize(vectors.float(), dim=-1))
        array: np.ndarray = torch.cat(parts).cpu().numpy()
        return array

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return (self.encode(texts) for texts in collections)
