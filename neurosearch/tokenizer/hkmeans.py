"""Hierarchical k-means (DSI, Tay et al. 2022): clusters within clusters, true recursion.

Every node with more than `leaf` products is split into at most K clusters of its own products;
in a node with fewer, a product's code is its place. Codes mean something below their prefix
only. Depth is what the catalogue needs, `levels` at most: where the last level would need more
than K codes, the node there is split instead and products collide.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.ragged import offsets_of
from neurosearch.core.runtime import Runtime
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer
from neurosearch.tokenizer.kmeans import balanced_labels, kmeans


@dataclass(frozen=True)
class HKMeans(SemanticTokenizer):
    """Attributes:
    leaf: products that a node numbers instead of splitting, which may be more than K; null: K.
    balanced: clusters of about equal size.
    """

    iterations: int = setting(25, least=1)
    balanced: bool = True
    leaf: int | None = None

    has_costs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.leaf is not None and self.leaf < 1:
            raise self.error("leaf", f"must be at least 1, not {self.leaf}")

    @property
    def numbers(self) -> int:
        """Codes that a leaf has, at most."""
        return max(self.codes, self.leaf or 0)

    def fit(self, vectors: np.ndarray, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        points = np.ascontiguousarray(vectors, dtype=np.float32)
        codes = np.zeros((len(points), self.levels), dtype=np.int32)
        centroids: list[np.ndarray] = []  # of each node's children, or the leaf's own mean
        children: list[np.ndarray] = []  # node numbers, empty for a leaf
        filled: list[int] = []  # products of a leaf
        pending = [(np.arange(len(points)), 0, -1, 0)]
        depth = 1
        with runtime.progressing("splitting products", len(points)) as advance:
            while pending:
                rows, level, parent, child = pending.pop()
                node = len(centroids)
                if parent >= 0:
                    children[parent][child] = node
                depth = max(depth, level + 1)
                last = level == self.levels - 1
                if len(rows) <= (self.leaf or self.codes) or (last and len(rows) <= self.numbers):
                    codes[rows, level] = np.arange(len(rows))
                    centroids.append(points[rows].mean(axis=0, keepdims=True))
                    children.append(np.empty(0, dtype=np.int64))
                    filled.append(len(rows))
                    advance(len(rows))
                    continue
                clusters, labels = self._split(points[rows], node)
                codes[rows, level] = labels
                centroids.append(clusters)
                filled.append(0)
                children.append(np.full(0 if last else len(clusters), -1, dtype=np.int64))
                if last:
                    advance(len(rows))
                    continue
                members = [rows[labels == c] for c in range(len(clusters))]
                pending += [(m, level + 1, node, c) for c, m in enumerate(members) if len(m)]
        counts = [len(x) for x in centroids]
        arrays: dict[str, Any] = {
            "centroids": np.concatenate(centroids),
            "starts": offsets_of(counts),
            "children": np.concatenate(
                [
                    np.pad(c, (0, n - len(c)), constant_values=-1)
                    for c, n in zip(children, counts, strict=True)
                ]
            ),
            "filled": np.array(filled),
            "codes": codes[:, :depth],
        }
        np.savez(folder / "tree.npz", **arrays)
        return {"nodes": len(counts), "depth": depth}

    def _split(self, points: np.ndarray, node: int) -> tuple[np.ndarray, np.ndarray]:
        size = min(self.codes, len(points))
        seed = self.seed * 1_000_003 + node
        clusters = kmeans(points, size, self.iterations, seed, self.balanced)
        if self.balanced:
            return clusters, balanced_labels(points, clusters)
        import faiss

        _, nearest = faiss.knn(points, clusters, 1)
        return clusters, nearest[:, 0].astype(np.int32)

    def quantizer(self, folder: Path) -> Quantizer:
        stored = np.load(folder / "tree.npz")
        return Tree(**{name: stored[name] for name in stored.files})


class Tree:
    """Nodes with their children's centroids in one array, `starts` to `starts` of the next."""

    def __init__(
        self,
        centroids: np.ndarray,
        starts: np.ndarray,
        children: np.ndarray,
        filled: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        self._centroids, self._starts, self._children = centroids, starts, children
        self._filled, self._codes = filled, codes
        # How many codes a level has is what its fullest node needs.
        self.sizes = tuple(int(codes[:, level].max()) + 1 for level in range(codes.shape[1]))

    def assign(self, vectors: np.ndarray, known: bool = False) -> np.ndarray:
        """Unseen products go down to the nearest child each time; a leaf gives its next numbers,
        and the level's last one over and over when it is full."""
        if known:
            return self._codes
        codes = np.zeros((len(vectors), len(self.sizes)), dtype=np.int32)
        at = np.zeros(len(vectors), dtype=np.int64)
        going = np.arange(len(vectors))
        for level in range(len(self.sizes)):
            leaf = self._filled[at[going]] > 0
            self._number(codes, going[leaf], at, level)
            going = going[~leaf]
            nearest = self._nearest(vectors, going, at[going])
            codes[going, level] = nearest
            at[going] = self._children[self._starts[at[going]] + nearest]
            going = going[at[going] >= 0]
        return codes

    def _number(self, codes: np.ndarray, rows: np.ndarray, at: np.ndarray, level: int) -> None:
        order = rows[np.argsort(at[rows], kind="stable")]
        nodes = at[order]
        turn = np.arange(len(nodes)) - np.searchsorted(nodes, nodes)
        codes[order, level] = np.minimum(self._filled[nodes] + turn, self.sizes[level] - 1)

    def _nearest(self, vectors: np.ndarray, rows: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """One search a node that some row is at, not one a row."""
        nearest = np.zeros(len(rows), dtype=np.int64)
        order = np.argsort(nodes, kind="stable")
        bounds = np.flatnonzero(np.diff(nodes[order], prepend=-1, append=-1))
        for start, end in itertools.pairwise(bounds):
            group = order[start:end]
            node = nodes[group[0]]
            centroids = self._centroids[self._starts[node] : self._starts[node + 1]]
            parts = np.asarray(vectors[rows[group]], dtype=np.float32)
            nearest[group] = ((centroids**2).sum(axis=1) - 2 * parts @ centroids.T).argmin(axis=1)
        return nearest

    def decode(self, codes: np.ndarray) -> Iterator[np.ndarray]:
        """The centroid of the cluster at each level; in a leaf, the leaf's mean."""
        at = np.zeros(len(codes), dtype=np.int64)
        now = np.zeros((len(codes), self._centroids.shape[1]), dtype=np.float32)
        going = np.arange(len(codes))
        for level in range(codes.shape[1]):
            leaf = self._filled[at[going]] > 0
            now[going[leaf]] = self._centroids[self._starts[at[going[leaf]]]]
            going = going[~leaf]
            places = self._starts[at[going]] + codes[going, level]
            now[going] = self._centroids[places]
            at[going] = self._children[places]
            going = going[at[going] >= 0]
            yield now.copy()

    def costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        raise TypeError("a tree's leaves number their products: there is nothing to move")
