"""Inverted lists (FAISS IVF): the products of the `probes` nearest k-means cells are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.index.base import SAMPLE, Index
from neurosearch.index.live import LiveIndex
from neurosearch.index.parameters import behind_reduction, innermost, made_of, through

CODES = ("float", "half", "sq8")  # how a vector is stored in its list
LEAST = 39  # vectors of a cell, below which FAISS's k-means warns
SAMPLE_OF_CELL = 64  # vectors that k-means learns from, for each of its cells


@dataclass(frozen=True)
class LiveIVF(LiveIndex):
    recipe: Lists

    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: the centroids, and what the probed lists hold."""
        inverted, vectors = behind_reduction(self.index, vectors)
        probes = min(self.recipe.probes, inverted.nlist)
        _, cells = inverted.quantizer.search(vectors, probes)
        sizes = np.array([inverted.invlists.list_size(i) for i in range(inverted.nlist)])
        probed: np.ndarray = np.where(cells >= 0, sizes[cells], 0).sum(axis=1)
        return probed + int(inverted.nlist)


@dataclass(frozen=True)
class Lists(Index):
    """Base of indexes with inverted lists.

    Attributes:
        cells: of the k-means; at most one for 39 products are made.
        probes: cells whose products are scored.
        seed: of the k-means.
    """

    cells: int = setting(256, least=1)
    probes: int = setting(16, least=1)
    seed: int = 0

    searching: ClassVar[Mapping[str, Any]] = {"probes": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probes > self.cells:
            raise self.error("probes", f"is {self.probes}: 1 to index.cells={self.cells}")

    def made(self, count: int) -> int:
        """Cells that are made of so many vectors.

        Args:
            count: vectors.

        Returns:
            At least 1.
        """
        return max(1, min(self.cells, count // LEAST))

    def sampled(self, count: int) -> int:
        return max(SAMPLE, SAMPLE_OF_CELL * self.made(count))

    def listed(self, count: int, width: int) -> float:
        """Bytes a vector of the ids and the centroids.

        Args:
            count: vectors.
            width: dimensions.

        Returns:
            Bytes.
        """
        return 8 + 4.0 * width * self.made(count) / count

    def probed(self, index: Any, whole: bool) -> int:
        """Cells that a search looks into.

        Args:
            index: FAISS's, behind its transforms or not.
            whole: look into all of them.

        Returns:
            At most as many as there are.
        """
        cells = int(innermost(index).nlist)
        return cells if whole else min(self.probes, cells)

    def parameters(self, index: Any, k: int, selector: Any, whole: bool) -> Any:
        import faiss

        probes = self.probed(index, whole)
        made = made_of(faiss.SearchParametersIVF, nprobe=probes, sel=selector)
        return through(index, made)

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        return LiveIVF(index, encoder, self, rows)

    def label(self) -> str:
        return f"{super().label()}{self.cells} probes {self.probes}"


@dataclass(frozen=True)
class IVF(Lists):
    """`code`: `float` (4 bytes a dimension), `half` (2) or `sq8` (1)."""

    code: str = setting("float", choices=CODES)

    @property
    def keeps_floats(self) -> bool:
        return self.code == "float"

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        width, cells = sample.shape[1], self.made(count)
        coarse, metric = faiss.IndexFlatIP(width), faiss.METRIC_INNER_PRODUCT
        if self.code == "float":
            index: Any = faiss.IndexIVFFlat(coarse, width, cells, metric)
        else:
            kinds = {"half": faiss.ScalarQuantizer.QT_fp16, "sq8": faiss.ScalarQuantizer.QT_8bit}
            kind = kinds[self.code]
            index = faiss.IndexIVFScalarQuantizer(coarse, width, cells, kind, metric)
        index.cp.seed = self.seed + 1
        index.train(sample)
        return index

    def coded(self, count: int, width: int) -> float:
        size = {"float": 4, "half": 2, "sq8": 1}[self.code]
        ranges = 8.0 * width / count if self.code == "sq8" else 0.0
        return size * width + ranges + self.listed(count, width)

    def label(self) -> str:
        return super().label() + ("" if self.code == "float" else f" {self.code}")
