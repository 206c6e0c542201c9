"""Random IDs: codes from a hash of the vector. What semantics must beat (DSI, Tay et al. 2022)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.runtime import Runtime
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer


@dataclass(frozen=True)
class RandomIds(SemanticTokenizer):
    has_costs: ClassVar[bool] = False

    def fit(self, vectors: np.ndarray, folder: Path, runtime: Runtime) -> dict[str, Any]:
        return {}

    def quantizer(self, folder: Path) -> Quantizer:
        return Hashed((self.codes,) * self.levels, self.seed)


class Hashed:
    def __init__(self, sizes: tuple[int, ...], seed: int) -> None:
        self.sizes, self._seed = sizes, seed

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        salt = self._seed.to_bytes(8, "little")
        width = 8 * len(self.sizes)
        digests = b"".join(
            hashlib.shake_128(salt + row.tobytes()).digest(width)
            for row in np.ascontiguousarray(vectors, dtype=np.float32)
        )
        numbers = np.frombuffer(digests, dtype=np.uint64).reshape(-1, len(self.sizes))
        return (numbers % np.array(self.sizes, dtype=np.uint64)).astype(np.int32)

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        return iter(())

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        raise TypeError("random codes have no costs")
