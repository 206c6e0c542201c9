"""What the three networks of histories share: products' vectors, the training, the scores.

A product's vector is a linear map of its text's vector, plus one of its own, which begins with
zeros; so products that nobody bought have a place too. The loss is the softmax over all products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.profile.base import Profile, purchases
from neurosearch.training.schedule import Schedule
from neurosearch.training.trainer import fit
from neurosearch.training.weights import save_weights

BLOCK = 512  # queries that are scored at a time


def usual_schedule() -> Schedule:
    """Of these networks."""
    return Schedule(epochs=30.0, lr=3e-3, warmup=0.05, decay="cosine", validations=10, patience=3)


@dataclass(frozen=True)
class Neural(Profile):
    """Base of profiles with a network.

    Attributes:
        encoder: of queries and products.
        dimensions: of products' vectors.
        layers, heads, dropout: of the transformer, where there is one.
        batch_size: queries of a step.
        schedule: of the optimisation.

    Class attributes:
        network: which one, as in `network.NETWORKS`.
    """

    network: ClassVar[str]
    encoder: Encoder = field(default_factory=Sentence)
    dimensions: int = setting(64, least=2)
    layers: int = setting(2, least=1)
    heads: int = setting(2, least=1)
    dropout: float = setting(0.2, least=0, below=1)
    batch_size: int = setting(256, least=2)
    schedule: Schedule = field(default_factory=usual_schedule)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimensions % self.heads:
            raise self.error("dimensions", f"must be a multiple of heads={self.heads}")

    def learnt(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        vectors = self.encoder.product_embeddings(view.products(data))
        return [TrainedProfile(view.learning(data), self, self.network, vectors), vectors]

    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> NeuralTaste:
        from safetensors.torch import load_file

        from neurosearch.profile.neural.network import made

        trained, vectors = (runtime.get(one) for one in self.learnt(data))
        network = made(self, self.network, np.asarray(vectors.vectors, dtype=np.float32))
        network.load_state_dict(load_file(str(trained / "profile.safetensors")))
        live = self.encoder.loaded(runtime, data)
        return NeuralTaste(network.eval().to(runtime.torch_device()), live, self.longest)


@dataclass(frozen=True)
class NeuralTaste:
    """Attributes:
    network: that scores all products.
    live: the encoder of queries.
    longest: of a history.
    """

    network: Any
    live: Any
    longest: int

    def scores(self, texts: Sequence[str], histories: np.ndarray) -> np.ndarray:
        import torch

        found = []
        for start in range(0, len(texts), BLOCK):
            part = slice(start, start + BLOCK)
            query = torch.from_numpy(np.array(self.live.encode(texts[part]), dtype=np.float32))
            rows = torch.from_numpy(padded(histories[part], self.longest))
            device = next(self.network.parameters()).device
            with torch.inference_mode():
                found.append(self.network(query.to(device), rows.to(device)).cpu().numpy())
        whole: np.ndarray = np.concatenate(found)
        return whole


def padded(histories: np.ndarray, longest: int) -> np.ndarray:
    """Histories of one width.

    Args:
        histories: Q×T product rows, -1 in front.
        longest: the width.

    Returns:
        Q×longest int64.
    """
    rows = histories[:, -longest:]
    missing = longest - rows.shape[1]
    return np.pad(rows, ((0, 0), (missing, 0)), constant_values=-1)


@dataclass(frozen=True)
class TrainedProfile(Artifact[Path]):
    """profile.safetensors, curves.csv."""

    kind: ClassVar[str] = "profile"
    resumable: ClassVar[bool] = True
    data: Artifact[Dataset]
    recipe: Neural
    network: str
    vectors: Artifact[Embeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.profile.neural.training import ProfileModule

        data, recipe = runtime.get(self.data), self.recipe
        parts = {}
        for split in ("train", "dev"):
            one = purchases(data, split, recipe.longest)
            parts[split] = replace(one, histories=padded(one.histories, recipe.longest))
        live = recipe.encoder.loaded(runtime, self.data)
        asked = {split: np.asarray(live.encode(one.texts)) for split, one in parts.items()}
        vectors = np.asarray(runtime.get(self.vectors).vectors, dtype=np.float32)
        module = ProfileModule(recipe, self.network, vectors, parts, asked)
        outcome = fit(module, folder, runtime)
        save_weights(module.network, folder / "profile.safetensors")
        return {**outcome, "purchases": len(parts["train"].bought)}

    def load(self, folder: Path) -> Path:
        return folder
