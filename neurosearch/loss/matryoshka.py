"""Matryoshka (Kusupati et al. 2022): the loss on every prefix of the vectors, re-normalised.

L = sum over m of w_m L(norm(u[:m]), norm(v[:m])): any prefix can be searched. w is one
for the longest prefix and `shorter` for the others; one everywhere costs quality at full width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.loss.base import Loss, Targets

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Matryoshka(Loss):
    """`dimensions` of the prefixes, those beyond the encoder's left out; `shorter`: the weight of
    all but the longest."""

    loss: Loss
    dimensions: tuple[int, ...] = (384, 256, 192, 128, 96, 64, 32)
    shorter: float = setting(1.0, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dimensions or min(self.dimensions) < 1:
            raise self.error("dimensions", f"must be positive, not {self.dimensions}")

    @property
    def needs_teacher(self) -> bool:
        return self.loss.needs_teacher

    @property
    def by_query(self) -> bool:
        return self.loss.by_query

    def check(self, dimensions: int) -> None:
        if min(self.dimensions) > dimensions:
            message = f"loss.dimensions: {list(self.dimensions)}"
            raise InputError(f"{message}, but the encoder's vectors have {dimensions}")
        self.loss.check(dimensions)

    def objective(self) -> nn.Module:
        from torch import nn
        from torch.nn.functional import normalize

        recipe = self

        class Objective(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = recipe.loss.objective()

            def forward(self, queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
                width = queries.shape[1]
                total = queries.new_zeros((), dtype=documents.float().dtype)
                sizes = sorted({min(d, width) for d in recipe.dimensions}, reverse=True)
                for size in sizes:
                    q = normalize(queries[:, :size].float(), dim=1)
                    d = normalize(documents[:, :size].float(), dim=1)
                    weight = 1.0 if size == sizes[0] else recipe.shorter
                    total = total + weight * self.inner(q, d, targets)
                return total

        return Objective()

    def label(self) -> str:
        return f"Matryoshka {self.loss.label()}"
