"""A sentence encoder reads, a small decoder writes: strong where no T5's weights are at hand.

The decoder sees the encoder's vector, projected to `prefix_tokens`, and its token states, or the
vector alone. The encoder may be one that was fine-tuned (encoder=biencoder), which then goes on
training, or stays as it is where `frozen`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.generator.base import Generator
from neurosearch.generator.decoder_config import Shape

MEMORIES = ("states", "vector")


@dataclass(frozen=True)
class DensePrefix(Generator):
    """Attributes:
    encoder: that reads.
    memory: `states` (of the tokens, and the vector) or `vector`.
    prefix_tokens: that the vector is projected to.
    frozen: the encoder is used as it is.
    shape: of the decoder.
    """

    encoder: Encoder = field(default_factory=Sentence)
    memory: str = setting("states", choices=MEMORIES)
    prefix_tokens: int = setting(2, least=1)
    frozen: bool = False
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.encoder.has_network:
            name = type(self.encoder).__name__
            raise self.error("encoder", f"is {name}, which has no network to read with")

    @property
    def prefix(self) -> str:
        return self.encoder.prefixes[0]

    def pretrained_weights(self, data: Artifact[Dataset]) -> Artifact[Path] | None:
        return self.encoder.trained(data)

    def network(self, sizes: tuple[int, ...], pretrained: Path | None) -> Any:
        import torch

        from neurosearch.generator.decoder import CodeDecoder
        from neurosearch.generator.network import CodeModel, DenseReader

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.schedule.seed)
            tower = self.encoder.tower(pretrained)
            reader = DenseReader(tower, self.prefix_tokens, self.memory == "vector", self.frozen)
            return CodeModel(reader, CodeDecoder(sizes, self.shape, reader.width))

    def label(self) -> str:
        return "Dense prefix"
