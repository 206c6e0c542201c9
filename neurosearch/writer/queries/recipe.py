"""Queries for products, by a small decoder that is trained on the positive pairs of train.

It reads a product and writes queries for it (docTTTTTquery, Nogueira & Lin 2019); `titles` is the
same the other way round. A sentence encoder reads, a decoder of a few layers writes, and may copy
what it has read (See et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields, queries_of
from neurosearch.evaluation.gain import Gain
from neurosearch.nn.pretrained import check_reads, weights_digest
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights
from neurosearch.writer.base import Writer


@dataclass(frozen=True)
class CopyShape(Recipe):
    """Attributes:
    model: a sentence encoder, which reads; its embeddings are the decoder's too.
    layers, heads, feed, dropout: of the decoder, which is as wide as the encoder.
    query_max_length, product_max_length: tokens.
    """

    layers: int = setting(4, least=1)
    heads: int = setting(6, least=1)
    feed: int = setting(1536, least=1)
    dropout: float = setting(0.3, least=0, below=1)
    query_max_length: int = setting(24, least=4)
    product_max_length: int = setting(48, least=4)
    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("query_max_length", "product_max_length"):
            check_reads(self.model, f"writer.shape.{name}", getattr(self, name))


@dataclass(frozen=True)
class Queries(Writer):
    """Attributes:
    gain, positive_share: a train judgment worth this share of the largest gain is a positive.
    fields, separator: of a product's text.
    query: what train and dev queries pass first.
    reader_rate: the encoder's learning rate, as a share of the schedule's; 0 leaves it as it is.
    top_k: likeliest tokens that a text is drawn from; 1 for the likeliest text.

    Class attributes:
        writes: what it writes; the other one is what it reads.
    """

    gain: Gain = field(kw_only=True)
    query: QueryProcessor = field(kw_only=True)
    positive_share: float = setting(0.66, above=0, most=1)
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    shape: CopyShape = field(default_factory=CopyShape)
    batch_size: int = setting(256, least=2)
    reader_rate: float = setting(0.1, least=0)
    top_k: int = setting(10, least=1)
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=3.0, lr=5e-4, patience=0))

    writes: ClassVar[str] = "queries"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("writer.fields", self.fields)

    @property
    def lengths(self) -> tuple[int, int]:
        """Tokens of what is read, and of what is written."""
        query, product = self.shape.query_max_length, self.shape.product_max_length
        return (product, query) if self.writes == "queries" else (query, product)

    def fitted(self, data: Artifact[Dataset]) -> Writer:
        data = view.before(data)
        whole: Any = data.stored()
        for split in ("train", "dev"):
            if not whole.part_digest(queries_of(split)):
                reason = f"is trained on a data set, and this one has no {split} queries"
                raise InputError(f"writer={self.writes} {reason}")
        recipe = replace(self, query=self.query.fitted(data))
        return Fitted(self, TrainedCopy(view.learning(data), recipe))

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        raise InputError(f"writer {self.label()} is trained on a data set: take fitted(data)")

    def label(self) -> str:
        return f"{self.writes} of a small decoder"


@dataclass(frozen=True)
class TrainedCopy(Artifact[Path]):
    """writer.safetensors, curves.csv, and how the training went (in the manifest)."""

    kind: ClassVar[str] = "writer"
    resumable: ClassVar[bool] = True
    data: Artifact[Dataset]
    recipe: Queries

    def check(self, runtime: Runtime) -> None:
        from neurosearch.negatives.base import check_judged

        check_judged(runtime.get(self.data), self.recipe.gain)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.writer.queries.training import CopyModule

        module = CopyModule(self.recipe, runtime.get(self.data), runtime)
        outcome = fit(module, folder, runtime)
        save_weights(module.network, folder / "writer.safetensors")
        return {**outcome, "pairs": module.pairs}

    def load(self, folder: Path) -> Path:
        return folder


@dataclass(frozen=True)
class Fitted(Writer):
    """The writer with its weights."""

    recipe: Queries
    files: TrainedCopy

    def fitted(self, data: Artifact[Dataset]) -> Writer:
        return self.recipe.fitted(data)

    def serving(self) -> list[Artifact[Any]]:
        return [self.files]

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        from neurosearch.writer.queries.live import loaded

        recipe, folder = self.recipe, runtime.get(self.files)
        live = loaded(recipe.shape, recipe.lengths, folder, runtime.torch_device())
        drawn = samples, recipe.top_k, recipe.schedule.seed
        if is_live:
            return live.write(prompts, *drawn)
        with runtime.progressing(f"writing {recipe.writes}", len(prompts)) as advance:
            return live.write(prompts, *drawn, advance)

    def label(self) -> str:
        return self.recipe.label()
