"""Exact search by inner product over vectors that lie on one or several devices.

Rows are held in blocks of a fixed size, whole blocks on each device. A block's products are
computed alike wherever it lies, so one device and several give the same rows and scores. The best
of a block are found through its groups' largest scores: the k best rows lie in the k best groups
(by their largest score), and only those groups are searched.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**18  # rows that are compared at a time
GROUP = 128  # rows of which the largest score is found first
QUERIES = 1024  # compared at a time: a block's scores take a gigabyte


class ExactSearch:
    """N vectors on devices, in blocks.

    Attributes:
        count: N.
        dimensions: of a vector.
    """

    def __init__(
        self, vectors: np.ndarray | Tensor, devices: Sequence[torch.device], block: int = BLOCK
    ) -> None:
        """Copy N×D float32 vectors to devices, each an equal share of the blocks."""
        self.count, self.dimensions = vectors.shape
        self.devices = list(devices)
        starts = range(0, self.count, block)
        share = -(-len(starts) // len(self.devices))
        # Turn by turn, so that all devices have work while the others' calls are issued.
        order = sorted(range(len(starts)), key=lambda number: (number % share, number))
        self._blocks: list[tuple[int, Tensor]] = []
        for number in order:
            part = vectors[starts[number] : starts[number] + block]
            held = torch.from_numpy(np.ascontiguousarray(part)) if _is_array(part) else part
            placed = held.to(self.devices[number // share], torch.float32)
            self._blocks.append((starts[number], placed))

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k rows with the largest inner products, best first; of equal ones the lower row.

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
            found = self._search(torch.from_numpy(queries[part]), k)
            rows[part], scores[part] = (values.cpu().numpy() for values in found)
        return rows, scores

    @torch.inference_mode()
    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        asked = {device: queries.to(device, non_blocking=True) for device in self.devices}
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for start, block in self._blocks:
            scores, rows = best_of(asked[block.device] @ block.T, k)
            found[start] = (scores, rows + start)
        first = self.devices[0]
        # In the order of rows, so that a stable sort keeps equal scores in it.
        parts = [found[start] for start in sorted(found)]
        scores = torch.cat([part.to(first, non_blocking=True) for part, _ in parts], dim=1)
        rows = torch.cat([part.to(first, non_blocking=True) for _, part in parts], dim=1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return rows.gather(1, order[:, :k]), scores[:, :k]


def best_of(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of Q×N scores, or all N: values, and their columns in order."""
    queries, count = scores.shape
    k = min(k, count)
    groups = count // GROUP
    if count % GROUP or groups <= k:
        values, columns = scores.topk(k, dim=1)
    else:
        grouped = scores.view(queries, groups, GROUP)
        chosen = grouped.amax(dim=2).topk(k, dim=1).indices
        inside = grouped.gather(1, chosen[:, :, None].expand(-1, -1, GROUP)).flatten(1)
        values, places = inside.topk(k, dim=1)
        columns = chosen.gather(1, places // GROUP) * GROUP + places % GROUP
    columns, order = columns.sort(dim=1)
    return values.gather(1, order), columns


def _is_array(part: np.ndarray | Tensor) -> bool:
    return isinstance(part, np.ndarray)
