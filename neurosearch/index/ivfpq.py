"""Inverted lists of product-quantised vectors (Jégou et al. 2011; FAISS IVFPQ), rotated or not.

OPQ (Ge et al. 2013) rotates the vectors so that the parts carry equal shares of what matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.index.ivf import Lists

ROTATIONS = ("none", "opq", "random")


@dataclass(frozen=True)
class IVFPQ(Lists):
    """Attributes:
    parts: of a vector, each quantised on its own; the width is a multiple of it. None for about
        an eighth of the width.
    bits: of a part's code.
    rotation: before the parts are cut: `none`, `opq` or `random`.
    """

    parts: int | None = setting(None, least=1)
    bits: int = setting(8, least=4, most=12)
    rotation: str = setting("none", choices=ROTATIONS)

    @property
    def keeps_floats(self) -> bool:
        return False

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        width = sample.shape[1]
        parts = parts_of(width, self.parts, 8)
        coarse, cells = faiss.IndexFlatIP(width), self.made(count)
        metric = faiss.METRIC_INNER_PRODUCT
        inner = faiss.IndexIVFPQ(coarse, width, cells, parts, self.bits, metric)
        inner.cp.seed = inner.pq.cp.seed = self.seed + 1
        index = rotated(inner, self.rotation, parts, self.seed)
        index.train(sample)
        return index

    def coded(self, count: int, width: int) -> float:
        codebooks = 4.0 * width * (1 << self.bits) / count
        turn = 0.0 if self.rotation == "none" else 4.0 * width * width / count
        return (
            parts_of(width, self.parts, 8) * self.bits / 8
            + self.listed(count, width)
            + codebooks
            + turn
        )

    def label(self) -> str:
        turned = "" if self.rotation == "none" else f"{self.rotation.upper()} "
        size = f"{self.parts or ''}x{self.bits}"
        return f"{turned}IVF{self.cells},PQ{size} probes {self.probes}"


def parts_of(width: int, parts: int | None, size: int) -> int:
    """How many equal parts a vector is cut into.

    Args:
        width: of a vector.
        parts: that are wanted; None for those of about `size` dimensions.
        size: dimensions of a part.

    Returns:
        A divisor of the width.

    Raises:
        InputError: the vector can't be cut so.
    """
    fit = [n for n in range(1, width + 1) if width % n == 0]
    if parts is None:
        return min(fit, key=lambda n: abs(n - width / size))
    if width % parts:
        near = min(fit, key=lambda n: abs(n - parts))
        raise InputError(f"index.parts={parts} does not divide {width} dimensions; {near} does")
    return parts


def rotated(inner: Any, rotation: str, parts: int, seed: int) -> Any:
    """An index behind a rotation.

    Args:
        inner: FAISS's.
        rotation: one of ROTATIONS.
        parts: of a vector, which OPQ makes equal.
        seed: of a random rotation.

    Returns:
        The index, to be trained with the rotation; `inner` itself for none.
    """
    import faiss

    if rotation == "none":
        return inner
    turn: Any
    if rotation == "opq":
        turn = faiss.OPQMatrix(inner.d, parts)
    else:
        turn = faiss.RandomRotationMatrix(inner.d, inner.d)
        turn.init(seed + 1)
    return faiss.IndexPreTransform(turn, inner)
