"""An encoder without weights: signed feature hashing of words and character trigrams.

(Weinberger et al. 2009.) It needs no download and no torch: for tests, for `--help`-fast
demonstrations, and as the floor that any learnt encoder has to beat.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosearch.core.runtime import Runtime
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.nn.tokens import character_lengths


@dataclass(frozen=True)
class Hashing(Encoder):
    """`dimensions`: of the vectors; `trigrams`: weight of character trigrams beside words."""

    dimensions: int = 256
    trigrams: float = 0.5

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        return LiveHashingEncoder(self)

    def label(self) -> str:
        return "Hashing"


class LiveHashingEncoder:
    """Caches the vector of every distinct word."""

    def __init__(self, recipe: Hashing) -> None:
        self._recipe = recipe
        self.dimensions = recipe.dimensions
        self._words: dict[str, np.ndarray] = {}

    def for_products(self) -> LiveEncoder:
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return character_lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row] += self._word(word)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(norms, 1e-12)
        return vectors

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)

    def _word(self, word: str) -> np.ndarray:
        known = self._words.get(word)
        if known is None:
            known = np.zeros(self.dimensions, dtype=np.float32)
            padded = f"#{word}#"
            grams = [padded[i : i + 3] for i in range(len(padded) - 2)]
            for feature, weight in [(word, 1.0), *((g, self._recipe.trigrams) for g in grams)]:
                code = zlib.crc32(feature.encode())
                known[code % self.dimensions] += weight if code & 0x80000000 else -weight
            self._words[word] = known
        return known
