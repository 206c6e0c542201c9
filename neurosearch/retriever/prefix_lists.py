"""Products in FAISS inverted lists by semantic-ID prefix, and the way down the code tree to them.

A node of the tree stands for the mean direction of its products.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.vectors import Embeddings

CHUNK = 64  # queries whose nodes are compared at a time


class PrefixLists:
    """Products in inverted lists by prefix (node of level `depth`), and the nodes above them."""

    def __init__(self, index: Any, nodes: list[np.ndarray], ids: SemanticIds, encoder: str) -> None:
        from neurosearch.generator.trie import Trie

        self.index, self.nodes, self.ids, self.encoder = index, nodes, ids, encoder
        self.trie = Trie.of(ids)
        self.depth = len(nodes)
        self.sizes = np.bincount(self.trie.prefixes(self.depth), minlength=len(nodes[-1]))

    def probe(
        self, vectors: np.ndarray, widths: Sequence[int], k: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest prefixes of each query, level by level, by the vectors of the tree's nodes.

        Args:
            vectors: Q×D of queries.
            widths: nodes kept on each level; more of the last one where they hold fewer than `k`
                products and more were compared.
            k: products that are wanted.

        Returns:
            Q×P nodes (int64, -1 padded), best first, and Q counts of nodes that were compared.
        """
        import torch

        lists, compared = [], []
        for start in range(0, len(vectors), CHUNK):
            # A copy: torch wants what it could write to, and the store's vectors are read-only.
            chunk = torch.from_numpy(np.array(vectors[start : start + CHUNK]))
            kept = torch.zeros(len(chunk), 1, dtype=torch.long)
            visited = torch.zeros(len(chunk), dtype=torch.long)
            steps = zip(self.trie.levels[: self.depth], self.nodes, widths, strict=True)
            for level, means, width in steps:
                places, valid = level.children(kept.clamp(min=0))
                valid = (valid & (kept[..., None] >= 0)).flatten(1)
                places = places.flatten(1)
                visited += valid.sum(dim=1)
                vectors_of = torch.from_numpy(means)[places]
                scores = torch.einsum("qd,qnd->qn", chunk, vectors_of)
                scores.masked_fill_(~valid, -torch.inf)
                last = means is self.nodes[-1]
                most = level.nodes if last and k else width
                best = scores.topk(min(most, level.nodes, scores.shape[1]), dim=1)
                kept = places.gather(1, best.indices).masked_fill(best.values.isinf(), -1)
                if last and k:
                    held = torch.from_numpy(self.sizes)[kept].masked_fill(kept < 0, 0)
                    before = held.cumsum(dim=1) - held
                    wanted = (torch.arange(kept.shape[1]) < width) | (before < k)
                    kept = kept.masked_fill(~wanted, -1)[:, : int(wanted.sum(dim=1).max())]
            lists.append(kept.numpy())
            compared.append(visited.numpy())
        width = max(part.shape[1] for part in lists)
        padded = [np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=-1) for p in lists]
        return np.concatenate(padded), np.concatenate(compared)

    def enough(self, nodes: np.ndarray, k: int) -> np.ndarray:
        """Q×P' nodes: prefixes with fewer than k products between them are shortened."""
        held = np.where(nodes >= 0, self.sizes[nodes], 0).sum(axis=1)
        short = np.flatnonzero(held < min(k, len(self.ids)))
        if not len(short):
            return nodes
        grown = {row: self._grown(nodes[row], k) for row in short}
        width = max(nodes.shape[1], max(map(len, grown.values())))
        result = np.pad(nodes, ((0, 0), (0, width - nodes.shape[1])), constant_values=-1)
        for row, prefixes in grown.items():
            result[row] = -1
            result[row, : len(prefixes)] = prefixes
        return result

    def _grown(self, nodes: np.ndarray, k: int) -> np.ndarray:
        import torch

        nodes = nodes[nodes >= 0]
        for depth in range(self.depth - 1, -1, -1):
            above = nodes
            for level in range(self.depth - 1, depth - 1, -1):
                above = self.trie.levels[level].parent.numpy()[above]
            if depth == 0:
                break
            below = np.unique(above)
            for level in range(depth, self.depth):
                children, there = self.trie.levels[level].children(torch.from_numpy(below))
                below = children[there].numpy()
            if self.sizes[below].sum() >= min(k, len(self.ids)):
                return below
        return np.arange(len(self.sizes))

    def nearest(
        self, vectors: np.ndarray, nodes: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Q×k rows (-1 padded) and cosines of the products in the nodes' lists."""
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        places = np.ascontiguousarray(nodes, dtype=np.int64)
        self.index.nprobe = places.shape[1]
        nothing = np.zeros(places.shape, dtype=np.float32)
        scores, rows = self.index.search_preassigned(queries, k, places, nothing)
        return rows, scores


@dataclass(frozen=True)
class PrefixListsArtifact(Artifact[PrefixLists]):
    """lists.faiss, nodes-l.npy (directions of each level's nodes), the encoder's fingerprint."""

    kind: ClassVar[str] = "prefix_lists"
    embeddings: Artifact[Embeddings]
    ids: Artifact[SemanticIds]
    depth: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import faiss
        from faiss.contrib.ivf_tools import add_preassigned

        from neurosearch.generator.trie import Trie

        embeddings, ids = runtime.get(self.embeddings), runtime.get(self.ids)
        vectors = np.ascontiguousarray(embeddings.vectors, dtype=np.float32)
        trie = Trie.of(ids)
        for level in range(1, self.depth + 1):
            node = trie.prefixes(level)
            order = np.argsort(node, kind="stable")
            starts = np.searchsorted(node[order], np.arange(trie.levels[level - 1].nodes))
            sums = np.add.reduceat(vectors[order], starts, axis=0)
            lengths = np.linalg.norm(sums, axis=1, keepdims=True).clip(min=1e-12)
            np.save(folder / f"nodes-{level}.npy", sums / lengths)
        means = np.load(folder / f"nodes-{self.depth}.npy")
        width = vectors.shape[1]
        coarse = faiss.IndexFlatIP(width)
        coarse.add(means)
        index = faiss.IndexIVFFlat(coarse, width, len(means), faiss.METRIC_INNER_PRODUCT)
        index.is_trained = True
        rows = np.arange(len(vectors))  # named: FAISS keeps no reference to it while it reads
        add_preassigned(index, vectors, trie.prefixes(self.depth), rows)
        faiss.write_index(index, str(folder / "lists.faiss"))
        ids.save(folder)
        meta = {"encoder": embeddings.encoder}
        (folder / "lists.json").write_text(json.dumps(meta), encoding="utf-8")
        return {"prefixes": len(means), "products": len(vectors)}

    def load(self, folder: Path) -> PrefixLists:
        import faiss

        meta = json.loads((folder / "lists.json").read_text(encoding="utf-8"))
        nodes = [np.load(folder / f"nodes-{level}.npy") for level in range(1, self.depth + 1)]
        index = faiss.read_index(str(folder / "lists.faiss"))
        return PrefixLists(index, nodes, SemanticIds.load(folder), meta["encoder"])
