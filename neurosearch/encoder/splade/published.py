"""Published learned sparse models (SPLADE, inference-free ones) as they are, without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.sentence import model_label
from neurosearch.encoder.splade.base import SparseEncoder
from neurosearch.nn.pretrained import ALLOWED, model_folder, weights_digest

KEY = "encoder.model"


@dataclass(frozen=True)
class PublishedTerms(Recipe):
    """The network of a `PublishedSplade`."""

    model: str = content(weights_digest)
    query_max_length: int | None = None
    product_max_length: int | None = None
    allow: tuple[str, ...] = ()

    def live(self, weights: Path | None, precision: str, runtime: Runtime) -> Any:
        """The network on the runtime's device."""
        from neurosearch.nn.foreign import ForeignTerms

        lengths = self.query_max_length, self.product_max_length
        folder = model_folder(self.model, KEY, self.allow)
        return ForeignTerms(folder, lengths, precision, self.allow, runtime)


@dataclass(frozen=True)
class PublishedSplade(SparseEncoder):
    """Attributes:
    model: a local folder, or a name on the hub.
    query_max_length, product_max_length: tokens, special ones included; None for the model's own.
    allow: `pickle`: weights that may hold code; `remote_code`: code that a model brings.
    The rest: see `SparseEncoder`.
    """

    model: str = content(weights_digest, default="naver/splade-v3")
    query_max_length: int | None = setting(None, least=4)
    product_max_length: int | None = setting(None, least=4)
    allow: tuple[str, ...] = setting((), choices=ALLOWED)

    @property
    def shape(self) -> PublishedTerms:
        lengths = self.query_max_length, self.product_max_length
        return PublishedTerms(self.model, *lengths, self.allow)

    def label(self) -> str:
        return f"{model_label(self.model)} zero-shot"
