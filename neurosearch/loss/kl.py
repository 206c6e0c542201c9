"""Distillation over lists: KL(softmax(t / T) || softmax(s / temperature)), mean over queries.

(Hinton et al. 2015.) Over the documents of each query that the teacher scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional, masked
from neurosearch.loss.margin_mse import teacher_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class KL(Loss):
    """`temperature` of the student's cosines, `teacher_temperature` of the teacher's scores."""

    temperature: float = 0.05
    teacher_temperature: float = 1.0

    def objective(self) -> nn.Module:
        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            teacher = teacher_of(targets)
            known = ~teacher.isnan()
            rows = known.sum(dim=1) > 1
            filled = masked(teacher.nan_to_num() / self.teacher_temperature, known)[rows]
            logits = masked(cosines(queries, documents) / self.temperature, known)[rows]
            target, student = filled.log_softmax(dim=1), logits.log_softmax(dim=1)
            inside = known[rows]
            gaps = (target - student).masked_fill(~inside, 0.0)
            return (target.exp() * gaps).sum() / rows.sum().clamp(min=1)

        return functional(loss)
