"""CoSENT (Su 2022): log(1 + sum over pairs with y_i > y_j of exp(scale (s_j - s_i))).

Over all judged (query, document) pairs of the batch, whichever queries they are of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class CoSENT(Loss):
    """`scale`: 20 in the original."""

    scale: float = 20.0

    def objective(self) -> nn.Module:
        import torch

        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            judged = ~targets.gain.isnan()
            gains = targets.gain[judged]
            scores = self.scale * cosines(queries, documents)[judged]
            differences = scores[None, :] - scores[:, None]  # s_j - s_i
            wrong = differences[gains[:, None] > gains[None, :]]
            return torch.cat([wrong.new_zeros(1), wrong]).logsumexp(dim=0)

        return functional(loss)
