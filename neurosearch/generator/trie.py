"""The trie of a catalogue's semantic IDs, as tensors (in the manner of STATIC, arXiv 2602.22647).

Distinct prefixes of l codes are the nodes of level l, numbered in the order of their codes; so a
node's children are a run of the next level's nodes, and one pair of arrays a level says it all:
where each node's children begin, and the last code of each node. There is no table of edges.
Where nodes are few and have children for much of the codes, a dense table node × code → child
serves instead, and the search reads log-probabilities without gathering them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from neurosearch.core.errors import InputError
from neurosearch.core.ragged import offsets_of
from neurosearch.core.semantic_ids import SemanticIds

DENSE_CELLS = 1 << 24  # of a level's dense table, at most (int32: 64 MB)
DENSE_SHARE = 0.125  # of the codes that the widest node has, from which a dense table pays


@dataclass(frozen=True)
class Level:
    """Children of the nodes of one level.

    Attributes:
        bounds: n×2 int64; node s has the next level's nodes bounds[s, 0] to bounds[s, 1] - 1.
        code: m int64, the last code of each node of the next level.
        parent: m int64, its parent.
        steps: int64, 0 to one less than the children of the widest node.
        table: n×K int32 child by code, -1 where there is none; None where not worth its bytes.
    """

    bounds: Tensor
    code: Tensor
    parent: Tensor
    steps: Tensor
    table: Tensor | None

    @property
    def nodes(self) -> int:
        """How many nodes the next level has."""
        return len(self.code)

    def children(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """…×C: the children of nodes, C those of the widest, and which of them there are."""
        begin, end = self.bounds[nodes].unsqueeze(-1).unbind(-2)
        places = begin + self.steps
        there = places < end
        return places.clamp_(max=self.nodes - 1), there


@dataclass(frozen=True)
class Trie:
    """Attributes:
    levels: one a code of an ID.
    sizes: codes of each level.
    leaf_of: N int64, the leaf (number of the distinct ID) of each product.
    bucket_begin, bucket_rows: leaf u has products bucket_rows[bucket_begin[u]:bucket_begin[u+1]].
    """

    levels: tuple[Level, ...]
    sizes: tuple[int, ...]
    leaf_of: np.ndarray
    bucket_begin: np.ndarray
    bucket_rows: np.ndarray

    @classmethod
    def of(cls, ids: SemanticIds, dense_cells: int = DENSE_CELLS) -> Trie:
        """The trie of a catalogue. Raises InputError where it has no products."""
        codes = np.asarray(ids.codes, dtype=np.int64)
        if not len(codes):
            raise InputError("a trie of no semantic IDs was asked for")
        rows = np.lexsort(codes.T[::-1])
        ordered = codes[rows]
        # Where a row's prefix differs from the row before, level by level.
        new = np.zeros(len(codes), dtype=bool)
        new[0] = True
        levels, above = [], np.zeros(len(codes), dtype=np.int64)
        for level, size in enumerate(ids.sizes):
            new = new | np.concatenate([[True], np.diff(ordered[:, level]) != 0])
            first = np.flatnonzero(new)
            parent, code = above[first], ordered[first, level]
            levels.append(_level(parent, code, int(above[-1]) + 1, size, dense_cells))
            above = np.cumsum(new) - 1
        leaf_of = np.empty(len(codes), dtype=np.int64)
        leaf_of[rows] = above
        sizes = np.bincount(above)
        begin = offsets_of(sizes)
        return cls(tuple(levels), tuple(ids.sizes), leaf_of, begin, rows.astype(np.int64))

    @property
    def leaves(self) -> int:
        """Distinct IDs."""
        return self.levels[-1].nodes

    def to(self, device: torch.device | str) -> Trie:
        """The same with its tensors on `device`."""
        moved = []
        for level in self.levels:
            table = None if level.table is None else level.table.to(device)
            tensors = {
                name: getattr(level, name).to(device)
                for name in ("bounds", "code", "parent", "steps")
            }
            moved.append(replace(level, table=table, **tensors))
        return replace(self, levels=tuple(moved))

    def prefixes(self, depth: int) -> np.ndarray:
        """N int64: the node of level `depth` (1 to L) above each product."""
        nodes = self.leaf_of
        for level in reversed(self.levels[depth:]):
            nodes = level.parent.cpu().numpy()[nodes]
        return nodes

    def codes(self, nodes: Tensor, depth: int) -> Tensor:
        """…×depth int64 codes of nodes of level `depth`."""
        columns = []
        for level in reversed(self.levels[:depth]):
            columns.append(level.code[nodes])
            nodes = level.parent[nodes]
        return torch.stack(columns[::-1], dim=-1)

    def find(self, codes: Tensor) -> Tensor:
        """…: the leaf of …×L codes, -1 where the catalogue has no such ID."""
        nodes = torch.zeros(codes.shape[:-1], dtype=torch.long, device=codes.device)
        known = torch.ones_like(nodes, dtype=torch.bool)
        for number, level in enumerate(self.levels):
            # Nodes are in the order of (parent, code), so that pair's place is by bisection.
            size = self.sizes[number]
            keys = level.parent * size + level.code
            wanted = nodes * size + codes[..., number]
            nodes = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            known &= keys[nodes] == wanted
        return nodes.masked_fill(~known, -1)


def _level(parent: np.ndarray, code: np.ndarray, nodes: int, size: int, cells: int) -> Level:
    counts = np.bincount(parent, minlength=nodes)
    begin = offsets_of(counts)
    table = None
    if nodes * size <= cells and counts.max() >= DENSE_SHARE * size:
        filled = np.full((nodes, size), -1, dtype=np.int32)
        filled[parent, code] = np.arange(len(code))
        table = torch.from_numpy(filled)
    bounds = np.stack([begin[:-1], begin[1:]], axis=1)
    edges, codes, above = (torch.from_numpy(np.array(x)) for x in (bounds, code, parent))
    return Level(edges, codes, above, torch.arange(int(counts.max())), table)
