"""ColBERT: late interaction between the token vectors of a query and of a product.

Trained as a bi-encoder is: the same pairs, negatives, mask, losses and GradCache, or by
distillation from a teacher's scores (loss=kl, loss=margin_mse; ColBERTv2, Santhanam et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.exportable import Exportable
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import remembered
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.biencoder.recipe import TrainedBiEncoder, check_training
from neurosearch.encoder.colbert.base import TokenEncoder
from neurosearch.encoder.colbert.embeddings import TokenShape, load_tower
from neurosearch.encoder.sentence import model_label
from neurosearch.evaluation.gain import Gain
from neurosearch.implicit.base import Implicit, from_clicks
from neurosearch.loss.base import Loss
from neurosearch.loss.infonce import InfoNCE
from neurosearch.negatives.base import Negatives
from neurosearch.negatives.in_batch import InBatch
from neurosearch.nn.pretrained import check_reads, weights_digest
from neurosearch.query.none import NoProcessing
from neurosearch.training.schedule import Schedule


@dataclass(frozen=True)
class ColBERT(TokenEncoder):
    """Attributes:
    model, dimensions, *_max_length, markers, expansion, attend_expansion, skip_punctuation: see
        `TokenShape`.
    The rest: see `TokenEncoder` and `BiEncoder`.
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
    loss: Loss = field(default_factory=InfoNCE)
    negatives: Negatives = field(default_factory=InBatch)
    batch_size: int = setting(256, least=2)
    chunk: int = setting(0, least=0)
    mask: bool = True
    typos: float = setting(0.0, least=0, most=1)
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=4.0))
    positive_share: float = setting(0.66, above=0, most=1)
    teacher: Retriever | None = None
    implicit: Implicit | None = None
    query: QueryProcessor = field(default_factory=NoProcessing)
    dev_products: int = setting(5_000, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_training(self)
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

    @remembered
    def trained(self, data: Artifact[Dataset]) -> Artifact[Path]:
        data = view.before(data)
        return TrainedColBERT.of(self, data, (tuple(self.fields), self.separator, "", ""))

    def exported(self, data: Artifact[Dataset]) -> Exportable:
        def write(folder: Path, runtime: Runtime) -> None:
            from neurosearch.nn.export import save_pylate

            save_pylate(load_tower(self.shape, runtime.get(self.trained(data))), self.shape, folder)

        lines = (
            "from pylate import models  # or sentence_transformers.MultiVectorEncoder",
            "",
            'model = models.ColBERT("this/folder")',
            "queries = model.encode([...], is_query=True)",
            "products = model.encode([...], is_query=False)",
        )

        def networks(runtime: Runtime) -> dict[str, Any]:
            from neurosearch.nn.exchange import TokenVectors

            return {"model": TokenVectors(load_tower(self.shape, runtime.get(self.trained(data))))}

        whole = Exportable(self.label(), "PyLate", self.model, lines, write)
        return replace(whole, networks=networks)

    def label(self) -> str:
        name = f"ColBERT ({model_label(self.model)}, {self.loss.label()}{from_clicks(self)})"
        return name if self.pool_factor == 1 else f"{name}, pooled by {self.pool_factor}"


@dataclass(frozen=True)
class TrainedColBERT(TrainedBiEncoder):
    """The network's weights, curves.csv, and how the training went (in the manifest)."""

    kind: ClassVar[str] = "colbert"
    shape: Any

    def towers(self, runtime: Runtime) -> Any:
        return load_tower(self.shape, None, self.schedule.seed)

    def module_class(self) -> Any:
        from neurosearch.encoder.colbert.training import ColBERTModule

        return ColBERTModule
