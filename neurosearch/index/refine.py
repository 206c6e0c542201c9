"""Candidates of a coarse index, scored again by finer vectors (FAISS IndexRefine)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.vectors import Embeddings
from neurosearch.index.base import Index, IndexArtifact, SearchedIndex
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.live import LiveIndex
from neurosearch.index.parameters import innermost, made_of, through
from neurosearch.index.sq import SQ

CODES = {"float": 32, "half": 16, "sq8": 8}  # bits a dimension


@dataclass(frozen=True)
class LiveRefine(LiveIndex):
    recipe: Refine

    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: what the coarse index compares, and the candidates again."""
        import faiss

        whole: Any = faiss.downcast_index(self.index)
        coarse = self.recipe.coarse.live(whole.base_index, self.encoder)
        again = min(self.recipe.candidates, int(whole.ntotal))
        counts: np.ndarray = coarse.compared(vectors) + again
        return counts


@dataclass(frozen=True)
class Refine(Index):
    """Attributes:
    coarse: gives the candidates.
    code: of the finer vectors: `float`, `half` or `sq8`.
    candidates: that are scored again, at least as many as products are asked for. An absolute
        number: the same for a list of ten and for one of two hundred.
    """

    coarse: Index = field(default_factory=IVFPQ)
    code: str = setting("float", choices=tuple(CODES))
    candidates: int = setting(100, least=1)

    searching: ClassVar[Mapping[str, Any]] = {"candidates": 100}

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.coarse, Refine) or self.coarse.reduction != "none":
            raise self.error("coarse", "must be no refine, and without a reduction of its own")

    def build(self, embeddings: Artifact[Embeddings]) -> Artifact[LiveIndex]:
        coarse = replace(self.coarse, **self.coarse.searching)
        plain = replace(self, coarse=coarse, **self.searching)
        return SearchedIndex(IndexArtifact(plain, embeddings), self)

    @property
    def keeps_floats(self) -> bool:
        return self.code == "float"

    def trained(self, sample: np.ndarray, count: int) -> Any:
        import faiss

        base = self.coarse.trained(sample, count)
        if self.code == "float":
            finer: Any = faiss.IndexFlatIP(sample.shape[1])
        else:
            finer = SQ(bits=CODES[self.code]).trained(sample, count)
        return faiss.IndexRefine(base, finer)

    def sampled(self, count: int) -> int:
        return self.coarse.sampled(count)

    def parameters(self, index: Any, k: int, selector: Any, whole: bool) -> Any:
        import faiss

        refined = innermost(index)
        candidates = max(k, min(self.candidates, refined.ntotal))
        base = self.coarse.parameters(refined.base_index, candidates, selector, whole)
        kind = faiss.IndexRefineSearchParameters
        made = made_of(kind, k_factor=candidates / k, base_index_params=base)
        return through(index, made)

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        return LiveRefine(index, encoder, self, rows)

    def coded(self, count: int, width: int) -> float:
        finer = CODES[self.code] / 8 * width
        return self.coarse.coded(count, width) + finer

    def label(self) -> str:
        return f"{self.coarse.label()}, {self.candidates} refined ({self.code})"
