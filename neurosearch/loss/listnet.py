"""ListNet (Cao et al. 2007) over judged lists: cross-entropy of softmax(s/t) to softmax(y/T)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional, list_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ListNet(Loss):
    """`temperature` of cosines, `gain_temperature` of gains (in [0, 1])."""

    temperature: float = 0.05
    gain_temperature: float = 0.25

    def objective(self) -> nn.Module:
        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            gains, logits = targets.gain, cosines(queries, documents)
            wanted = gains / self.gain_temperature
            return list_cross_entropy(wanted, logits / self.temperature, ~gains.isnan())

        return functional(loss)
