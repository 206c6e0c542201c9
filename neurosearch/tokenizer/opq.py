"""OPQ (Ge et al. 2013) through FAISS: a rotation, then one k-means for each part of the vector.

Codes are parallel, not hierarchical: a prefix is one part of the vector, not a coarse place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer


@dataclass(frozen=True)
class OPQ(SemanticTokenizer):
    """`codes` must be a power of two, and `levels` divide the vectors' dimensions."""

    iterations: int = setting(25, least=1)
    rotations: int = setting(20, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codes & (self.codes - 1):
            raise InputError(f"tokenizer.codes={self.codes}: OPQ needs a power of two")

    def fit(self, vectors: np.ndarray, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        points = np.ascontiguousarray(vectors, dtype=np.float32)
        dimensions = points.shape[1]
        if dimensions % self.levels:
            message = f"tokenizer.levels={self.levels} does not divide {dimensions} dimensions"
            raise InputError(message)
        if len(points) < self.codes:
            raise InputError(f"tokenizer.codes={self.codes}: only {len(points)} products")
        bits = self.codes.bit_length() - 1
        rotation = faiss.OPQMatrix(dimensions, self.levels)
        product = faiss.ProductQuantizer(dimensions, self.levels, bits)
        product.cp.seed, product.cp.niter = self.seed + 1234, self.iterations
        rotation.niter = self.rotations
        rotation.pq = product
        rotation.train(points)
        product.train(rotation.apply(points))
        shape = (self.levels, self.codes, dimensions // self.levels)
        centroids = faiss.vector_to_array(product.centroids).reshape(shape)
        matrix = faiss.vector_to_array(rotation.A).reshape(dimensions, dimensions)
        np.savez(folder / "opq.npz", matrix=matrix, centroids=centroids)
        rotation.pq = None
        return {}

    def quantizer(self, folder: Path) -> Quantizer:
        stored = np.load(folder / "opq.npz")
        return ProductCodes(stored["matrix"], stored["centroids"])


class ProductCodes:
    """D×D rotation and L×K×(D/L) centroids."""

    def __init__(self, matrix: np.ndarray, centroids: np.ndarray) -> None:
        self._matrix, self._centroids = matrix, centroids
        self.sizes = (centroids.shape[1],) * len(centroids)

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        parts = self._parts(vectors)
        levels = [self._distances(parts, n).argmin(axis=1) for n in range(len(self.sizes))]
        return np.column_stack(levels).astype(np.int32)

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        levels, _, width = self._centroids.shape
        rotated = np.zeros((len(codes), levels * width), dtype=np.float32)
        for level in range(codes.shape[1]):
            place = slice(level * width, (level + 1) * width)
            rotated[:, place] = self._centroids[level][codes[:, level]]
            yield rotated @ self._matrix

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return self._distances(self._parts(vectors), len(self.sizes) - 1)

    def _parts(self, vectors: np.ndarray) -> np.ndarray:
        rotated: np.ndarray = np.asarray(vectors, dtype=np.float32) @ self._matrix.T
        return rotated.reshape(len(rotated), len(self.sizes), -1)

    def _distances(self, parts: np.ndarray, level: int) -> np.ndarray:
        book = self._centroids[level]
        distances: np.ndarray = (book**2).sum(axis=1) - 2 * parts[:, level] @ book.T
        distances += (parts[:, level] ** 2).sum(axis=1, keepdims=True)
        return distances
