"""LambdaLoss with LambdaRank's weights (Burges 2010; Wang et al. 2018) over judged lists.

For each query, over pairs with y_i > y_j: |G_i - G_j| |1/D_i - 1/D_j| / maxDCG times
log2(1 + exp(-(s_i - s_j) / t)); D is log2(1 + rank) in the student's current order, and the
weights carry no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional, masked

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class LambdaLoss(Loss):
    temperature: float = 0.05

    def objective(self) -> nn.Module:
        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            judged = ~targets.gain.isnan()
            rows = judged.sum(dim=1) > 1
            width = int(judged[rows].sum(dim=1).max()) if bool(rows.any()) else 0
            scores = cosines(queries, documents)
            if width == 0:
                return scores.sum() * 0.0
            # Judged documents first, in the student's order: lists are short, B×M is not.
            order = masked(scores.detach(), judged)[rows].argsort(dim=1, descending=True)
            order = order[:, :width]
            gains = targets.gain.nan_to_num()[rows].gather(1, order)
            logits = scores[rows].gather(1, order) / self.temperature
            return lambda_cost(logits, gains, judged[rows].gather(1, order))

        return functional(loss)


def lambda_cost(logits: Tensor, gains: Tensor, inside: Tensor) -> Tensor:
    """LambdaLoss of lists (Wang et al. 2018): pairs in the wrong order, by what their swap costs in
    nDCG.

    Args:
        logits, gains: Q×n.
        inside: Q×n bool, which places of a list are filled.

    Returns:
        A scalar: the mean over lists.
    """
    import math

    import torch
    from torch.nn.functional import softplus

    order = masked(logits.detach(), inside).argsort(dim=1, descending=True)
    logits, gains, inside = (x.gather(1, order) for x in (logits, gains, inside))
    ranks = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    discount = 1 / torch.log2(1.0 + ranks)
    gains = gains.masked_fill(~inside, 0.0)
    ideal = (gains.sort(dim=1, descending=True).values * discount).sum(dim=1)
    apart = gains[:, :, None] - gains[:, None, :]
    steps = (discount[:, None] - discount[None, :]).abs()
    weights = apart.abs() * steps / ideal.clamp(min=1e-9)[:, None, None]
    pairs = (apart > 0) & inside[:, :, None] & inside[:, None, :]
    misorder = softplus(-(logits[:, :, None] - logits[:, None, :])) / math.log(2)
    return (weights * misorder).masked_fill(~pairs, 0.0).sum() / len(logits)
