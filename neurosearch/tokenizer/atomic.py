"""Atomic IDs: one level, one code a product (DSI's unstructured identifiers, Tay et al. 2022)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.runtime import Runtime
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer


@dataclass(frozen=True)
class Atomic(SemanticTokenizer):
    """`levels` and `codes` don't matter: there are as many codes as products."""

    has_costs: ClassVar[bool] = False
    admits: ClassVar[bool] = False

    def fit(self, vectors: np.ndarray, folder: Path, runtime: Runtime) -> dict[str, Any]:
        (folder / "count.json").write_text(json.dumps(len(vectors)), encoding="utf-8")
        return {}

    def quantizer(self, folder: Path) -> Quantizer:
        return Numbered(json.loads((folder / "count.json").read_text("utf-8")))


class Numbered:
    """Known products by their place; unseen ones get the numbers after them."""

    def __init__(self, count: int) -> None:
        self.sizes: tuple[int, ...] = (count,)

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        first = 0 if known else self.sizes[0]
        return np.arange(first, first + len(vectors), dtype=np.int32)[:, None]

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        return iter(())

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        raise TypeError("atomic codes have no costs")
