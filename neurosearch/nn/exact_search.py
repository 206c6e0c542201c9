"""Exact search by inner product over vectors that lie on one or several devices.

Rows are held in blocks of one size, whole blocks on each device. A block's products are computed
alike wherever it lies, and equal scores are told apart by their rows, so one device and several
give the same rows and scores. The best of many scores are found through their groups' largest
ones: the k best rows lie in the k groups whose largest scores are the best (of equal groups, the
first ones), and only those groups are searched.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**18  # rows whose products are computed at a time
GROUP = 128  # rows of which the largest score is found first
QUERIES = 1024  # compared at a time
SCORES = 2**28  # held at a time by a device: a gigabyte


class ExactSearch:
    """N vectors on devices.

    Attributes:
        count: N.
        devices: each holds an equal share of the blocks.
    """

    def __init__(
        self, vectors: np.ndarray, devices: Sequence[torch.device], block: int = BLOCK
    ) -> None:
        """Copy N×D float32 vectors to devices; `block`: rows, a multiple of GROUP."""
        self.count, width = vectors.shape
        self.devices = list(devices)
        self._block = block = min(block, -(-self.count // GROUP) * GROUP)
        blocks = -(-self.count // block)
        share = -(-blocks // len(self.devices))
        self._shards: list[tuple[int, Tensor]] = []  # first row; blocks × rows × D
        for first, device in zip(range(0, blocks, share), self.devices, strict=False):
            held = torch.zeros(min(share, blocks - first), block, width, device=device)
            for number, rows in enumerate(held):
                start = (first + number) * block
                part = np.ascontiguousarray(vectors[start : start + block], dtype=np.float32)
                rows[: len(part)] = torch.from_numpy(part)
            self._shards.append((first * block, held))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows with the largest inner products, best first; of equal ones the first rows.

        Args:
            queries: Q×D float32.
            k: at most N.

        Returns:
            Q×k rows (int64) and scores (float32).
        """
        rows = np.empty((len(queries), k), dtype=np.int64)
        scores = np.empty((len(queries), k), dtype=np.float32)
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            asked = torch.from_numpy(np.array(queries[part]))  # a copy: they may be mapped
            values, found = unpacked(self._search(asked, k))
            rows[part], scores[part] = found.cpu().numpy(), values.cpu().numpy()
        return rows, scores

    @torch.inference_mode()
    def _search(self, queries: Tensor, k: int) -> Tensor:
        """Q×k keys (`packed`), best first."""
        asked = [queries.to(held.device, non_blocking=True) for _, held in self._shards]
        step = max(1, SCORES // (len(queries) * self._block))
        found = []
        # Device by device inside, so that all have work while the calls of others are issued.
        for start in range(0, len(self._shards[0][1]), step):
            for (first, held), texts in zip(self._shards, asked, strict=True):
                if start < len(held):
                    row = first + start * self._block
                    found.append(self._best(held[start : start + step], texts, row, k))
        device = self._shards[0][1].device
        keys = torch.cat([part.to(device, non_blocking=True) for part in found], dim=1)
        return keys.topk(k, dim=1).values

    def _best(self, blocks: Tensor, queries: Tensor, row: int, k: int) -> Tensor:
        """Keys of the k best rows of blocks that begin at `row`, or of all of them."""
        scores = queries.new_empty(len(blocks), len(queries), self._block)
        for block, out in zip(blocks, scores, strict=True):
            torch.mm(queries, block.T, out=out)
        there = self.count - row - (len(blocks) - 1) * self._block
        scores[-1, :, max(0, there) :] = -torch.inf  # rows that only fill the last block
        return best_of(scores, row, k)


def best_of(scores: Tensor, row: int, k: int) -> Tensor:
    """Keys of each query's k best, or of all where there are fewer.

    Args:
        scores: blocks × queries × rows of a block, a multiple of GROUP.
        row: number of the first.
        k: wanted.
    """
    blocks, queries, size = scores.shape
    groups = size // GROUP
    largest = scores.view(blocks, queries, groups, GROUP).amax(dim=3)
    largest = largest.transpose(0, 1).reshape(queries, blocks * groups)
    number = torch.arange(blocks * groups, device=scores.device)
    kept = min(k, blocks * groups)
    _, chosen = unpacked(packed(largest, number).topk(kept, dim=1).values)
    query = torch.arange(queries, device=scores.device)[:, None]
    places = (chosen // groups * queries + query) * groups + chosen % groups
    inside = scores.view(-1, GROUP)[places].flatten(1)
    place = torch.arange(GROUP, device=scores.device)
    rows = (row + chosen[:, :, None] * GROUP + place).flatten(1)
    return packed(inside, rows).topk(min(k, inside.shape[1]), dim=1).values


def packed(scores: Tensor, rows: Tensor) -> Tensor:
    """Int64 keys whose order is that of scores (float32), and of equal scores that of lower rows.

    The bits of a float, with those below the sign turned where it is negative, are ordered as it.
    """
    bits = (scores + 0.0).view(torch.int32)  # -0 is 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) + (0x7FFFFFFF - rows)


def unpacked(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The scores and rows of keys."""
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), 0x7FFFFFFF - (keys & 0xFFFFFFFF)
