"""Tokenizers that look at a product's two views apart: its words and its picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.collisions.keep import Keep
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.multimodal.fused import Fused
from neurosearch.tokenizer.base import FittedTokenizer, Quantizer, SemanticTokenizer
from neurosearch.tokenizer.thresholds import Thresholds


@dataclass(frozen=True)
class ViewTokenizer(SemanticTokenizer):
    """`encoder` is a `Fused` one, whose vectors are the words' part, then the picture's."""

    encoder: Encoder = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.encoder, Fused):
            name = type(self.encoder).__name__
            raise self.error("encoder", f"must be fused (two views), not {name}")

    @property
    def views(self) -> Fused:
        """The encoder."""
        assert isinstance(self.encoder, Fused)
        return self.encoder

    def fit_views(
        self, vectors: np.ndarray, width: int, folder: Path, runtime: Runtime
    ) -> dict[str, Any]:
        """Write what was learnt into `folder`; the first `width` dimensions are the words'.

        Args:
            vectors: N×D float32.
            width: dimensions of the words' vectors.
            folder: of the artifact.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Details for the manifest.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is fitted")

    def fit_on(self, data: Artifact[Dataset]) -> Artifact[Quantizer]:
        plain = replace(self, collisions=Keep(), thresholds=Thresholds())
        return FittedViews(plain, self.encoder.product_embeddings(data), self.views.views(data)[0])


@dataclass(frozen=True)
class FittedViews(FittedTokenizer):
    """A tokenizer fitted on both views; `words` only says where the second one begins."""

    kind: ClassVar[str] = "tokenizer"
    words: Artifact[Embeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        tokenizer = self.tokenizer
        assert isinstance(tokenizer, ViewTokenizer)
        vectors = runtime.get(self.embeddings).vectors
        if len(vectors) < 2:
            raise InputError("tokenizer: a catalogue of two products or more is needed")
        width = runtime.get(self.words).vectors.shape[1]
        return tokenizer.fit_views(vectors, width, folder, runtime)
