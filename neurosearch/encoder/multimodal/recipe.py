"""Heads trained on a catalogue's vectors of words and pictures, and the vectors they give."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import bounds
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.image import ImageEncoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.evaluation.gain import Gain
from neurosearch.loss.base import Loss
from neurosearch.loss.infonce import InfoNCE
from neurosearch.negatives.base import check_judged, graded_pairs
from neurosearch.query.none import NoProcessing
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights

Parts = tuple[Artifact[Embeddings] | None, Artifact[Embeddings] | None]  # words, pictures


@dataclass(frozen=True)
class HeadTraining(Recipe):
    """How heads look and learn.

    Attributes:
        gated: both sides are gates over both parts; else words on one side, pictures on the other.
        dimensions, hidden: of the shared space, and of the hidden layer.
        gain, positive_share: a train judgment worth this share of the largest gain is a positive.
    """

    gated: bool
    dimensions: int = field(metadata=bounds(least=1))
    hidden: int = field(metadata=bounds(least=1))
    loss: Loss
    batch_size: int = field(metadata=bounds(least=2))
    schedule: Schedule
    gain: Gain
    positive_share: float = field(metadata=bounds(above=0, most=1))
    query: QueryProcessor

    def towers(self, widths: tuple[int, int]) -> Any:
        """An nn.ModuleDict of `query` and `product` for vectors of these widths, untrained."""
        import torch
        from torch import nn

        from neurosearch.encoder.multimodal.network import Gate, Head

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.schedule.seed)
            size = self.dimensions, self.hidden
            if self.gated:
                return nn.ModuleDict({s: Gate(widths, *size) for s in ("query", "product")})
            sides = {"query": Head(0, widths[0], *size), "product": Head(1, widths[1], *size)}
            return nn.ModuleDict(sides)


@dataclass(frozen=True)
class Headed(Encoder):
    """Base of encoders that are heads on a frozen text encoder and a frozen image encoder.

    Attributes:
        text, image: the frozen encoders.
        dimensions, hidden, loss, batch_size, schedule, gain, positive_share: see `HeadTraining`.
        query: how train and dev queries are processed first.
    """

    gain: Gain = field(kw_only=True)
    text: Encoder = field(default_factory=Sentence)
    image: Encoder = field(default_factory=ImageEncoder)
    dimensions: int = 256
    hidden: int = 512
    loss: Loss = field(default_factory=InfoNCE)
    batch_size: int = 512
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            epochs=20, lr=1e-3, decay="cosine", validations=5, patience=0
        )
    )
    positive_share: float = 0.66
    query: QueryProcessor = field(default_factory=NoProcessing)

    keeps_half: ClassVar[bool] = False
    gated: ClassVar[bool]

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.training

    @property
    def training(self) -> HeadTraining:
        """How its heads are trained."""
        return HeadTraining(
            self.gated,
            self.dimensions,
            self.hidden,
            self.loss,
            self.batch_size,
            self.schedule,
            self.gain,
            self.positive_share,
            self.query,
        )

    def product_parts(self, data: Artifact[Dataset]) -> Parts:
        """Vectors of the products' words and of their pictures."""
        return self.text.product_embeddings(data), self.image.product_embeddings(data)


@dataclass(frozen=True)
class TrainedHeads(Artifact[Any]):
    """heads.safetensors, their widths, curves.csv; loads as the two towers."""

    kind: ClassVar[str] = "heads"
    resumable: ClassVar[bool] = True
    training: HeadTraining
    data: Artifact[Dataset]
    train: Parts
    dev: Parts
    products: Parts

    def check(self, runtime: Runtime) -> None:
        check_judged(runtime.get(self.data), self.training.gain)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import torch

        from neurosearch.encoder.biencoder.pairs import PairBatches, TrainingPairs
        from neurosearch.encoder.multimodal.training import HeadData, HeadsModule, own_pairs

        recipe, data = self.training, runtime.get(self.data)
        torch.set_num_threads(runtime.cpu_threads)
        products = loaded_parts(self.products, runtime)
        widths = products[0].shape[1], products[1].shape[1]
        train, dev = (loaded_parts(p, runtime, widths) for p in (self.train, self.dev))
        graded = graded_pairs(data, data.judgments("train"), recipe.gain)
        there = np.flatnonzero((products[1] != 0).any(dim=1).numpy())
        pairs_of = own_pairs(graded, len(train[0]), there)
        titles = data.catalogue.all_texts(("title",))
        texts = recipe.query.reader(runtime).texts(data.queries("train").texts)
        pairs = TrainingPairs.of(pairs_of, titles, [*texts, *titles], recipe.positive_share)
        batches = PairBatches(pairs, [], recipe.batch_size, 0, recipe.schedule.seed)
        batches.steps = recipe.schedule.steps(batches.steps_per_epoch)
        both = [torch.cat([one, product]) for one, product in zip(train, products, strict=True)]
        parts = HeadData(both, products, dev, len(train[0]), batches)
        towers = recipe.towers(widths)
        module = HeadsModule(
            towers, parts, recipe.loss, recipe.schedule, data, recipe.gain, recipe.gated
        )
        module.start()
        outcome = fit(module, folder, runtime)
        save_weights(towers.cpu(), folder / "heads.safetensors")
        (folder / "heads.json").write_text(json.dumps({"widths": widths}), encoding="utf-8")
        return {**outcome, "pairs": len(pairs.query)}

    def load(self, folder: Path) -> Any:
        from safetensors.torch import load_model

        facts = json.loads((folder / "heads.json").read_text(encoding="utf-8"))
        towers = self.training.towers(tuple(facts["widths"]))
        load_model(towers, str(folder / "heads.safetensors"))
        loaded: Any = towers.eval()
        return loaded


@dataclass(frozen=True)
class HeadEmbeddings(Artifact[Embeddings]):
    """What one tower makes of parts: vectors.npy."""

    kind: ClassVar[str] = "embeddings"
    heads: TrainedHeads
    tower: str
    parts: Parts
    identity: str

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.encoder.multimodal.network import tower_vectors

        widths = [
            runtime.get(part).vectors.shape[1] if part is not None else 0
            for part in self.heads.products
        ]
        parts = loaded_parts(self.parts, runtime, (widths[0], widths[1]))
        vectors = tower_vectors(runtime.get(self.heads)[self.tower], parts)
        return save_embeddings(vectors, self.identity, folder)

    def load(self, folder: Path) -> Embeddings:
        return Embeddings.load(folder)


def save_embeddings(vectors: np.ndarray, identity: str, folder: Path) -> dict[str, Any]:
    """Write what `Embeddings.load` reads; returns details for the manifest."""
    if not np.isfinite(vectors).all():
        raise RuntimeError("some vectors are not finite")
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    meta = json.dumps({"encoder": identity})
    (folder / "embeddings.json").write_text(meta, encoding="utf-8")
    return {"shape": list(vectors.shape)}


def loaded_parts(
    parts: Parts, runtime: Runtime, widths: tuple[int, int] | None = None
) -> list[Any]:
    """Tensors of both parts; one that is None is all zeros, of the width that `widths` says."""
    import torch

    there = [None if part is None else np.array(runtime.get(part).vectors) for part in parts]
    count = next(len(vectors) for vectors in there if vectors is not None)
    loaded = []
    for place, vectors in enumerate(there):
        if vectors is None:
            if widths is None:
                raise InputError("heads need vectors of words and of pictures")
            vectors = np.zeros((count, widths[place]), np.float32)
        loaded.append(torch.from_numpy(vectors))
    return loaded
