"""ColBERT: late interaction between the token vectors of a query and of a product.

Trained as a bi-encoder is: the same pairs, negatives, mask, losses and GradCache, or by
distillation from a teacher's scores (loss=kl, loss=margin_mse; ColBERTv2, Santhanam et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content, digest
from neurosearch.core.recipe import PRECISIONS, Recipe
from neurosearch.core.retrieval import QueryProcessor, Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.encoder.biencoder.recipe import TrainedBiEncoder, check_training
from neurosearch.encoder.colbert.embeddings import (
    LiveTokens,
    ProductTokens,
    QueryTokens,
    TokenShape,
    load_tower,
)
from neurosearch.encoder.sentence import model_label
from neurosearch.evaluation.gain import Gain
from neurosearch.loss.base import Loss
from neurosearch.loss.infonce import InfoNCE
from neurosearch.negatives.base import Negatives
from neurosearch.negatives.in_batch import InBatch
from neurosearch.nn.pretrained import check_reads, weights_digest
from neurosearch.query.none import NoProcessing
from neurosearch.training.schedule import Schedule


@dataclass(frozen=True)
class ColBERT(Recipe):
    """Attributes:
    model, dimensions, *_max_length, markers, expansion, attend_expansion, skip_punctuation: see
        `TokenShape`.
    pool_factor: a product keeps one vector for so many; 1 for all.
    The rest: see `BiEncoder`.
    """

    gain: Gain = field(kw_only=True)
    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    dimensions: int | None = 128
    query_max_length: int = 16
    product_max_length: int = 64
    markers: tuple[str | None, ...] = ("[unused0]", "[unused1]")
    expansion: bool = False
    attend_expansion: bool = False
    skip_punctuation: bool = True
    pool_factor: int = setting(1, least=1)
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    loss: Loss = field(default_factory=InfoNCE)
    negatives: Negatives = field(default_factory=InBatch)
    batch_size: int = setting(256, least=2)
    chunk: int = setting(0, least=0)
    mask: bool = True
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=4.0))
    positive_share: float = setting(0.66, above=0, most=1)
    teacher: Retriever | None = None
    query: QueryProcessor = field(default_factory=NoProcessing)
    dev_products: int = setting(5_000, least=1)
    precision: str = setting("fp32", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self)
        check_fields("encoder.fields", self.fields)
        for name in ("query_max_length", "product_max_length"):
            check_reads(self.model, f"encoder.{name}", getattr(self, name))
        _ = self.shape

    @property
    def shape(self) -> TokenShape:
        """The network."""
        return TokenShape(
            self.dimensions,
            self.query_max_length,
            self.product_max_length,
            self.markers,
            self.expansion,
            self.attend_expansion,
            self.skip_punctuation,
            self.model,
        )

    def trained(self, data: Artifact[Dataset]) -> Artifact[Path]:
        """The network's weights after training on `data`."""
        return TrainedColBERT.of(self, data, (tuple(self.fields), self.separator, "", ""))

    def identity(self, data: Artifact[Dataset]) -> str:
        """Names the space of token vectors."""
        trained = self.trained(data).artifact_fingerprint
        return digest([self.shape.fingerprint, trained, self.precision])

    def product_tokens(self, data: Artifact[Dataset]) -> Artifact[TokenEmbeddings]:
        """Vectors of the catalogue's tokens."""
        texts = (tuple(self.fields), self.separator)
        parts: tuple[Any, ...] = (view.products(data), *texts, self.pool_factor)
        return ProductTokens(*self._network(data), *parts)

    def query_tokens(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[TokenEmbeddings]:
        """Vectors of the tokens of a split's processed queries."""
        parts: tuple[Any, ...] = (view.with_queries(data, split), split, query)
        return QueryTokens(*self._network(data), *parts)

    def _network(self, data: Artifact[Dataset]) -> tuple[Any, ...]:
        """Shape, weights, identity and precision: what makes token vectors of texts."""
        return self.shape, self.trained(data), self.identity(data), self.precision

    def live(self, runtime: Runtime, data: Artifact[Dataset]) -> LiveTokens:
        """The trained network on the runtime's device."""
        return LiveTokens(self.shape, runtime.get(self.trained(data)), self.precision, runtime)

    def label(self) -> str:
        name = f"ColBERT ({model_label(self.model)}, {self.loss.label()})"
        return name if self.pool_factor == 1 else f"{name}, pooled by {self.pool_factor}"


@dataclass(frozen=True)
class TrainedColBERT(TrainedBiEncoder):
    """The network's weights, curves.csv, and how the training went (in the manifest)."""

    kind: ClassVar[str] = "colbert"
    shape: Any

    def towers(self) -> Any:
        return load_tower(self.shape, None, self.schedule.seed)

    def module_class(self) -> Any:
        from neurosearch.encoder.colbert.training import ColBERTModule

        return ColBERTModule
