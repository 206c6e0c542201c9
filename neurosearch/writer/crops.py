"""Queries without a model: a few of the words that are read, in their order.

A query that a product's own title answers (in the manner of the inverse cloze task, Lee et al.
2019): pairs for pre-training an encoder on a catalogue, with no judgment needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.runtime import Runtime
from neurosearch.writer.base import Writer


@dataclass(frozen=True)
class Crops(Writer):
    """`shortest`, `longest`: words of a text, drawn by the seed and the text that is read."""

    shortest: int = setting(2, least=1)
    longest: int = setting(4, least=1)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < self.shortest:
            raise self.error("longest", f"is {self.longest}, less than shortest={self.shortest}")

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        return [self._cropped(prompt, samples) for prompt in prompts]

    def _cropped(self, prompt: str, samples: int) -> list[str]:
        words = prompt.split()
        rng = np.random.default_rng([self.seed, zlib.crc32(prompt.encode())])
        texts = []
        for _ in range(samples):
            count = min(int(rng.integers(self.shortest, self.longest + 1)), len(words))
            places = np.sort(rng.choice(len(words), count, replace=False))
            texts.append(" ".join(words[place] for place in places))
        return texts

    def label(self) -> str:
        return "words of the title"
