"""Sentence encoders: a Hugging Face text encoder, pooled and normalised (Reimers & Gurevych 2019).

all-MiniLM-L6-v2 is mean pooling and L2 normalisation over six BERT layers; E5 adds the
prefixes `query: ` and `passage: ` on both sides (Wang et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.recipe import PRECISIONS
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.nn.pretrained import check_modules, local_folder, weights_digest

POOLINGS = ("mean", "cls")


@dataclass(frozen=True)
class Sentence(Encoder):
    """Attributes:
    model: a local folder, a name that a package carries, or a name on the hub.
    pooling: `mean` over tokens, or `cls`, the first one.
    max_length: tokens of a text, special ones included; what is beyond is cut.
    precision: of the network: `fp32` or `bf16`. Vectors of one are not vectors of the other.
    """

    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    pooling: str = setting("mean", choices=POOLINGS)
    max_length: int = setting(128, least=3)
    precision: str = setting("fp32", choices=PRECISIONS)

    has_network: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        folder = local_folder(self.model)
        if folder is not None:
            check_modules(folder, self.model, self.pooling)

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        from neurosearch.nn.text_encoder import LiveText, TextTower

        tower: TextTower = self.tower()
        lengths = self.max_length, self.max_length
        return LiveText(tower, tower, lengths, self.precision, runtime)

    def tower(self, weights: Path | None = None) -> Any:
        from neurosearch.nn.text_encoder import TextTower, downloaded

        tower = TextTower(self.model, self.pooling)
        if local_folder(self.model) is None:  # only now are its files here
            check_modules(downloaded(self.model), self.model, self.pooling)
        return tower

    def label(self) -> str:
        return f"{model_label(self.model)} zero-shot"


def model_label(model: str) -> str:
    """A model's short name for tables."""
    name = model.rstrip("/").split("/")[-1]
    return {"all-MiniLM-L6-v2": "MiniLM", "e5-small-v2": "E5-small"}.get(name, name)
