"""RQ-k-means: each level clusters what the levels before it left over.

r_0 = x; c_l = argmin |r_{l-1} - e_{l,k}|; r_l = r_{l-1} - e_{l,c_l}. Codebooks are shared by all
prefixes: L·K vectors in all. `balanced` clusters evenly (as OneRec does); `beam` keeps that many
prefixes when codes are assigned, which lowers the error of the same codebooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.runtime import Runtime
from neurosearch.tokenizer import residual
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer
from neurosearch.tokenizer.kmeans import kmeans


@dataclass(frozen=True)
class RQKMeans(SemanticTokenizer):
    """`sample`: vectors that are clustered, at most."""

    iterations: int = setting(25, least=1)
    balanced: bool = False
    beam: int = setting(1, least=1)
    sample: int = 262_144

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample < self.codes:
            raise self.error("sample", f"is {self.sample}: tokenizer.codes={self.codes} or more")

    def fit(self, vectors: np.ndarray, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.permutation(len(vectors))[: self.sample])
        left = np.array(vectors[rows], dtype=np.float32)
        size = min(self.codes, len(left))
        codebooks = np.empty((self.levels, size, left.shape[1]), dtype=np.float32)
        with runtime.progressing("clustering levels", self.levels) as advance:
            for level in range(self.levels):
                seed = self.seed * 1009 + level
                codebooks[level] = kmeans(left, size, self.iterations, seed, self.balanced)
                codebook = codebooks[level : level + 1]
                left -= residual.decode(codebook, residual.assign(left, codebook))
                advance(1)
        np.save(folder / "codebooks.npy", codebooks)
        return {"vectors": len(rows)}

    def quantizer(self, folder: Path) -> Quantizer:
        return ResidualQuantizer(np.load(folder / "codebooks.npy"), self.beam)


class ResidualQuantizer:
    """L×K×D codebooks whose codewords add up."""

    def __init__(self, codebooks: np.ndarray, beam: int) -> None:
        self.codebooks, self._beam = codebooks, beam
        self.sizes = (codebooks.shape[1],) * len(codebooks)

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        return residual.assign(vectors, self.codebooks, self._beam)

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        total = np.zeros((len(codes), self.codebooks.shape[2]), dtype=np.float32)
        for level in range(codes.shape[1]):
            total = total + self.codebooks[level][codes[:, level]]
            yield total

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return residual.last_costs(vectors, self.codebooks, codes)
