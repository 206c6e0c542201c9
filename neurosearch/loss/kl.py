"""Distillation over lists: KL(softmax(t / T) || softmax(s / temperature)), mean over queries.

(Hinton et al. 2015.) Over the documents of each query that the teacher scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional, list_cross_entropy
from neurosearch.loss.margin_mse import teacher_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class KL(Loss):
    """`temperature` of the student's cosines, `teacher_temperature` of the teacher's scores."""

    temperature: float = 0.05
    teacher_temperature: float = 1.0

    @property
    def needs_teacher(self) -> bool:
        return True

    def objective(self) -> nn.Module:
        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            wanted = teacher_of(targets) / self.teacher_temperature
            logits = cosines(queries, documents) / self.temperature
            known = ~wanted.isnan()
            entropy = list_cross_entropy(wanted, wanted.nan_to_num(), known)
            return list_cross_entropy(wanted, logits, known) - entropy

        return functional(loss)
