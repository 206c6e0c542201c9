"""Margin-MSE (Hofstätter et al. 2020): the student's margins are to be the teacher's.

The mean of ((s+ - s-) - (t+ - t-) / scale)^2 over a query's own positive and every other
document that the teacher scored. Teachers give raw logits; cosines live in [-1, 1], so `scale`
brings the ones to the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.core.errors import InputError
from neurosearch.loss.base import Loss, Targets, cosines, functional, mean_of, own_scores

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class MarginMSE(Loss):
    scale: float = 1.0

    @property
    def needs_teacher(self) -> bool:
        return True

    def objective(self) -> nn.Module:
        def loss(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
            teacher = teacher_of(targets)
            scores = cosines(queries, documents)
            known = ~teacher.isnan() & ~own_scores(teacher).isnan()[:, None]
            known.fill_diagonal_(False)
            student_margin = own_scores(scores)[:, None] - scores
            filled = teacher.nan_to_num() / self.scale
            return mean_of(
                (student_margin - (own_scores(filled)[:, None] - filled)).square(), known
            )

        return functional(loss)


def teacher_of(targets: Targets) -> Tensor:
    """The teacher's scores. Raises InputError where there is no teacher."""
    if targets.teacher is None:
        raise InputError("this loss learns from a teacher, and encoder.teacher is null")
    return targets.teacher
