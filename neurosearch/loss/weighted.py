"""A sum of weighted losses, such as InfoNCE plus .5 ListNet on the judged lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.core.errors import InputError
from neurosearch.loss.base import Loss, Targets

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Weighted(Loss):
    """`losses` by name, and the `weights` of those names."""

    losses: Mapping[str, Loss]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if sorted(self.losses) != sorted(self.weights) or not self.losses:
            raise InputError(f"loss.weights {sorted(self.weights)} != {sorted(self.losses)}")

    @property
    def needs_teacher(self) -> bool:
        return any(loss.needs_teacher for loss in self.losses.values())

    def check(self, dimensions: int) -> None:
        for loss in self.losses.values():
            loss.check(dimensions)

    def objective(self) -> nn.Module:
        from torch import nn

        recipe = self

        class Objective(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                parts = {name: loss.objective() for name, loss in recipe.losses.items()}
                self.parts = nn.ModuleDict(parts)

            def forward(self, queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
                terms = [
                    recipe.weights[name] * part(queries, documents, targets)
                    for name, part in self.parts.items()
                ]
                total: Tensor = sum(terms[1:], start=terms[0])
                return total

        return Objective()

    def label(self) -> str:
        return " + ".join(loss.label() for loss in self.losses.values())
