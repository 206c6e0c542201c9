"""ListNet (Cao et al. 2007) over judged lists: cross-entropy of softmax(s/t) to softmax(y/T)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional, masked

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ListNet(Loss):
    """`temperature` of cosines, `gain_temperature` of gains (in [0, 1])."""

    temperature: float = 0.05
    gain_temperature: float = 0.25

    def objective(self) -> nn.Module:
        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            judged = ~targets.gain.isnan()
            rows = judged.sum(dim=1) > 1
            inside = judged[rows]
            gains = masked(targets.gain.nan_to_num()[rows] / self.gain_temperature, inside)
            logits = masked(cosines(queries, documents)[rows] / self.temperature, inside)
            each = logits.log_softmax(dim=1).masked_fill(~inside, 0.0)
            return -(gains.softmax(dim=1) * each).sum() / rows.sum().clamp(min=1)

        return functional(loss)
