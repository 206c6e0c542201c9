"""Sinkhorn re-assignment of the last code (LETTER, Wang et al. 2024; Cuturi 2013).

Below each crowded prefix the products' transport to the last codes, Q = diag(u) exp(-D / e)
diag(v), has rows of one and columns of one at most, so a code near many products is shared out
between them. Each product then takes the code with most of its mass that is still free. (With
fewer products than codes, columns of equal mass, as in training, would push products onto codes
that are far from everything: what no product needs goes to a row of its own, at no cost.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.collisions.base import Moving
from neurosearch.core.bounds import setting

CELLS = 16_000_000  # of a padded block of groups × products × codes


@dataclass(frozen=True)
class Sinkhorn(Moving):
    """`epsilon`: smoothing, as a share of a group's mean cost; `iterations` of scaling."""

    epsilon: float = setting(0.05, above=0)
    iterations: int = setting(50, least=1)

    def prices(self, prefix: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """-log Q of every row, groups of like size at a time."""
        _, group, sizes = np.unique(prefix, return_inverse=True, return_counts=True)
        order = np.lexsort((group, sizes[group]))
        ordered = sizes[group[order]]
        result = np.empty_like(costs)
        start = 0
        while start < len(order):
            size = ordered[start]
            end = int(np.searchsorted(ordered, size, side="right"))
            step = max(1, CELLS // (size * costs.shape[1])) * size
            for first in range(start, end, step):
                rows = order[first : min(first + step, end)]
                block = costs[rows].reshape(-1, size, costs.shape[1])
                result[rows] = -log_transport(block, self.epsilon, self.iterations).reshape(
                    len(rows), -1
                )
            start = end
        return result


def log_transport(costs: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """log Q of the entropic transport of rows to columns (Sinkhorn 1967, Cuturi 2013).

    Args:
        costs: G×n×K.
        epsilon: of the entropy; smaller is closer to an assignment.
        iterations: of the scaling.

    Returns:
        G×n×K float64 inside: rows of Q sum to 1, columns to n / K or, where there are fewer rows
        than columns, to 1 at most.
    """
    import torch

    block = torch.from_numpy(costs).double()
    groups, rows, codes = block.shape
    scale = block.mean(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    log_q = -block / (epsilon * scale)
    masses = torch.zeros(rows, 1, dtype=torch.float64)
    column = float(np.log(max(1.0, rows / codes)))
    if rows < codes:  # a row that takes what the others leave
        log_q = torch.cat([log_q, torch.zeros(groups, 1, codes, dtype=torch.float64)], dim=1)
        masses = torch.cat([masses, torch.full((1, 1), np.log(codes - rows)).double()])
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True) + column
        log_q = log_q - log_q.logsumexp(dim=2, keepdim=True) + masses
    plan: np.ndarray = log_q[:, :rows].float().numpy()
    return plan
