"""Cosine regression: the mean of (s - y)^2 over judged pairs, y the gain in [0, 1].

This is sentence-transformers' CosineSimilarityLoss. It sees no negatives but judged ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, functional, mean_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Cosine(Loss):
    def objective(self) -> nn.Module:
        return functional(regression)


def regression(queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
    judged = ~targets.gain.isnan()
    error = cosines(queries, documents) - targets.gain.nan_to_num()
    return mean_of(error.square(), judged)
