"""SPLADE: a bi-encoder whose vectors are sparse weights of a vocabulary (Formal et al. 2021, 2022).

Trained as a bi-encoder is: the same pairs, negatives, mask and losses, a teacher's scores where
there is one, and a penalty for terms that many texts of a batch have (FLOPS, Paria et al. 2020):
sum_j (mean_i w_ij)^2, of queries and of products, which grows over the first third of the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
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
from neurosearch.core.types import PRODUCTS, Dataset, queries_of
from neurosearch.encoder.biencoder.recipe import TrainedBiEncoder, check_training
from neurosearch.encoder.sentence import model_label
from neurosearch.encoder.splade.base import SparseEncoder
from neurosearch.encoder.splade.warm_up import QUERIES, TermShape, WarmedUp, WarmUp, load_tower
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
class Splade(SparseEncoder):
    """Attributes:
    model, *_max_length, expansion, queries: see `TermShape`.
    warm_up: of the vocabulary head; None for none.
    query_penalty, product_penalty: weights of FLOPS in the loss.
    The rest: see `BiEncoder`.
    """

    gain: Gain = field(kw_only=True)
    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    query_max_length: int = 32
    product_max_length: int = 64
    expansion: bool = True
    queries: str = setting("encoded", choices=QUERIES)
    warm_up: WarmUp | None = field(default_factory=WarmUp)
    query_penalty: float = setting(3e-3, least=0)
    product_penalty: float = setting(3e-4, least=0)
    loss: Loss = field(default_factory=lambda: InfoNCE(temperature=1.0))
    negatives: Negatives = field(default_factory=InBatch)
    batch_size: int = setting(256, least=2)
    chunk: int = setting(0, least=0)
    mask: bool = True
    typos: float = setting(0.0, least=0, most=1)
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=6.0, lr=1e-4, validations=3))
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
    def shape(self) -> TermShape:
        """The network."""
        lengths = self.query_max_length, self.product_max_length
        return TermShape(*lengths, self.expansion, self.queries, self.model)

    @remembered
    def trained(self, data: Artifact[Dataset]) -> Artifact[Path]:
        data, texts = view.before(data), (tuple(self.fields), self.separator)
        start = None
        if self.warm_up is not None and self.expansion:
            source = view.only(data, PRODUCTS, queries_of("train"))
            # How queries are weighted changes nothing of the masked language model.
            lengths = self.query_max_length, self.product_max_length
            plain = TermShape(*lengths, True, "encoded", self.model)
            start = WarmedUp(source, self.warm_up, plain, texts, self.query.fitted(data))
        penalties = self.query_penalty, self.product_penalty
        return TrainedSplade.of(self, data, (*texts, "", ""), start=start, penalties=penalties)

    def exported(self, data: Artifact[Dataset]) -> Exportable | None:
        if not self.expansion:
            return None  # sentence-transformers has no such pooling

        def write(folder: Path, runtime: Runtime) -> None:
            from neurosearch.nn.export_sparse import save_sparse_encoder

            tower = load_tower(self.shape, runtime.get(self.trained(data)))
            save_sparse_encoder(tower, self.shape, folder)

        lines = (
            "from sentence_transformers import SparseEncoder",
            "",
            'model = SparseEncoder("this/folder")',
            "queries = model.encode_query([...])",
            "products = model.encode_document([...])",
            "scores = model.similarity(queries, products)",
        )
        query, product = self.shape.max_lengths
        note = f"Queries are cut at {query} tokens by NeuroSearch, and at {product} here."
        note = note if query < product else ""
        return Exportable(self.label(), "sentence-transformers", self.model, lines, write, note)

    def label(self) -> str:
        name = "SPLADE" if self.expansion else "Term weights"
        how = ", queries by idf" if self.queries == "idf" else ""
        return f"{name} ({model_label(self.model)}, {self.loss.label()}{how}{from_clicks(self)})"


@dataclass(frozen=True)
class TrainedSplade(TrainedBiEncoder):
    """The network's weights, curves.csv, and how the training went (in the manifest)."""

    kind: ClassVar[str] = "splade"
    shape: Any
    penalties: tuple[float, float]

    def towers(self, runtime: Runtime) -> Any:
        weights = None if self.start is None else runtime.get(self.start)
        return load_tower(self.shape, weights, self.schedule.seed)

    def module_class(self) -> Any:
        from neurosearch.encoder.splade.training import SpladeModule

        return partial(SpladeModule, penalties=self.penalties)
