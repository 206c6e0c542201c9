"""Triplet loss with a margin (Schroff et al. 2015): max(0, margin - s_positive + s_negative).

Over a query's own positive and each document that is not refused, or only the hardest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional, masked, mean_of, own_scores

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Triplet(Loss):
    """`hardest`: one negative a query, the closest; else the mean over all of them."""

    margin: float = 0.2
    hardest: bool = True

    def objective(self) -> nn.Module:
        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            scores = cosines(queries, documents)
            positive, negative = own_scores(scores), targets.negative
            if self.hardest:
                closest = masked(scores, negative).max(dim=1).values
                some = negative.any(dim=1)
                violation = (self.margin - positive + closest.masked_fill(~some, -1.0)).relu()
                return mean_of(violation, some)
            violation = (self.margin - positive[:, None] + scores).relu()
            return mean_of(violation, negative)

        return functional(loss)
