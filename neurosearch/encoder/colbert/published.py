"""Published late-interaction models as they are: nothing is trained.

A folder or hub name of ColBERTv2 (Santhanam et al. 2022), of PyLate (Chaffin and Sourty 2025) or of
sentence-transformers' `MultiVectorEncoder`: its own markers, lengths, expansion of queries, list of
skipped tokens and projection. sentence-transformers reads all three layouts, and computes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.colbert.base import TokenEncoder
from neurosearch.encoder.colbert.embeddings import LiveTokens
from neurosearch.encoder.sentence import model_label
from neurosearch.nn.pretrained import ALLOWED, model_folder, weights_digest

KEY = "encoder.model"


@dataclass(frozen=True)
class PublishedTokens(Recipe):
    """The network of a `PublishedColBERT`."""

    model: str = content(weights_digest)
    query_max_length: int | None = None
    product_max_length: int | None = None
    allow: tuple[str, ...] = ()

    def live(self, weights: Path | None, precision: str, runtime: Runtime) -> LiveTokens:
        """The network on the runtime's device."""
        from neurosearch.nn.foreign import ForeignTokens

        lengths = self.query_max_length, self.product_max_length
        folder = model_folder(self.model, KEY, self.allow)
        return ForeignTokens(folder, lengths, precision, self.allow, runtime)


@dataclass(frozen=True)
class PublishedColBERT(TokenEncoder):
    """Attributes:
    model: a local folder, or a name on the hub.
    query_max_length, product_max_length: tokens, special ones included; None for the model's own.
    allow: `pickle`: weights that may hold code; `remote_code`: code that a model brings.
    The rest: see `TokenEncoder`.
    """

    model: str = content(weights_digest, default="colbert-ir/colbertv2.0")
    query_max_length: int | None = setting(None, least=4)
    product_max_length: int | None = setting(None, least=4)
    allow: tuple[str, ...] = setting((), choices=ALLOWED)

    @property
    def shape(self) -> PublishedTokens:
        lengths = self.query_max_length, self.product_max_length
        return PublishedTokens(self.model, *lengths, self.allow)

    def label(self) -> str:
        name = f"{model_label(self.model)} zero-shot"
        return name if self.pool_factor == 1 else f"{name}, pooled by {self.pool_factor}"
