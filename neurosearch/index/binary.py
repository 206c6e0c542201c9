"""One bit a dimension, with re-scoring (Yamada et al. 2021, without their training).

The sign of each centred dimension is kept: a thirty-second of float32's bytes. The nearest by
Hamming distance, `oversample` times as many as asked for, are re-scored by the inner product of
the float query with the ±1 code, which costs no further bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.index.base import Index
from neurosearch.index.live import LiveIndex
from neurosearch.index.parameters import behind_reduction


@dataclass(frozen=True)
class Binary(Index):
    """`oversample`: candidates a result; 1 leaves the order to Hamming distance's ties."""

    oversample: int = setting(4, least=1)

    searching: ClassVar[Mapping[str, Any]] = {"oversample": 4}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dimensions is not None and self.dimensions % 8:
            message = f"index.dimensions={self.dimensions}"
            raise InputError(f"{message}: index=binary needs a multiple of 8")

    @property
    def keeps_floats(self) -> bool:
        return False

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        width = sample.shape[1]
        if width % 8:
            raise InputError(f"index=binary needs a multiple of 8 dimensions, not {width}")
        # LSH without rotation and with trained thresholds (medians) is exactly the sign code.
        index = faiss.IndexLSH(width, width, False, True)
        index.train(sample)
        return index

    def coded(self, count: int, width: int) -> float:
        return width / 8

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        return LiveBinary(index, encoder, self, rows)


@dataclass(frozen=True)
class LiveBinary(LiveIndex):
    recipe: Binary

    def nearest(
        self, vectors: np.ndarray, k: int, subset: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        if subset is not None and self.scores_all(subset):
            return self.among(vectors, k, subset)
        inner, vectors = behind_reduction(self.index, vectors)
        if subset is None:
            wanted = min(self.recipe.oversample * k, inner.ntotal)
            _, rows = inner.search(vectors, wanted)
        else:  # the codes take no selector: all of the subset is scored
            rows = np.tile(np.flatnonzero(subset), (len(vectors), 1))
        codes = faiss.vector_to_array(inner.codes).reshape(inner.ntotal, -1)
        thresholds = faiss.vector_to_array(inner.thresholds)
        centred = vectors - thresholds
        scores = np.empty(rows.shape, dtype=np.float32)
        for query, candidates in enumerate(rows):
            bits = np.unpackbits(codes[candidates], axis=1, bitorder="little")[
                :, : vectors.shape[1]
            ]
            scores[query] = (2.0 * bits - 1.0) @ centred[query]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = np.full((len(vectors), k), -1, dtype=np.int64)
        given = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        found[:, : best.shape[1]] = np.take_along_axis(rows, best, 1)
        given[:, : best.shape[1]] = np.take_along_axis(scores, best, 1)
        return found, given
