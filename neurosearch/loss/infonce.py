"""InfoNCE with in-batch negatives (van den Oord et al. 2018), also known as MNRL or NT-Xent.

L = -1/B sum_i log( exp(s_ii/t) / sum_j exp(s_ij/t) ), s cosines, over the documents that are
not refused. `scale=20` in sentence-transformers is t = .05. `symmetric` averages with the
direction from documents to queries, over the own pairs. `multi_positive` takes the mean of
log softmax over all positives of a query (SupCon, Khosla et al. 2020) instead of its own only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurosearch.loss.base import Loss, Targets, cosines, masked

if TYPE_CHECKING:
    from torch import Tensor, nn

BOUNDS = (0.01, 0.1)  # of a learnt temperature


@dataclass(frozen=True)
class InfoNCE(Loss):
    """`learned`: the temperature is a parameter, clipped to [.01, .1]."""

    temperature: float = 0.05
    learned: bool = False
    symmetric: bool = False
    multi_positive: bool = False

    @property
    def by_query(self) -> bool:
        return not (self.symmetric or self.learned)  # a learnt temperature sees the whole batch

    def objective(self) -> nn.Module:
        import torch
        from torch import nn

        recipe = self

        class Objective(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                start = torch.tensor(math.log(recipe.temperature))
                self.log_temperature = nn.Parameter(start, requires_grad=recipe.learned)

            def forward(self, queries: Tensor, documents: Tensor, targets: Targets) -> Tensor:
                low, high = map(math.log, BOUNDS)
                log_t = self.log_temperature
                temperature = (log_t.clamp(low, high) if recipe.learned else log_t).exp()
                logits = cosines(queries, documents) / temperature
                loss = towards(logits, targets, recipe.multi_positive)
                if recipe.symmetric:
                    # B×B: own documents only; a hard negative has no query of its own.
                    size = len(logits)
                    square = logits[:, :size].T
                    flipped = Targets(
                        targets.positive[:, :size].T,
                        targets.refused[:, :size].T,
                        targets.gain[:, :size].T,
                    )
                    loss = (loss + towards(square, flipped, recipe.multi_positive)) / 2
                return loss

        return Objective()

    def label(self) -> str:
        return "InfoNCE"


def towards(logits: Tensor, targets: Targets, multi_positive: bool) -> Tensor:
    """The mean over rows of the negative log softmax of the row's positive(s).

    Args:
        logits: B×M.
        targets: what is known of the pairs.
        multi_positive: a row's positives all count, not its own alone (SupCon, Khosla et al. 2020).

    Returns:
        A scalar.
    """
    import torch

    size = len(logits)
    eye = torch.zeros_like(targets.positive)
    eye[:, :size] = torch.eye(size, dtype=torch.bool, device=logits.device)
    if not multi_positive:
        # Another relevant document is no negative: it leaves the denominator.
        kept = masked(logits, targets.negative | eye)
        return -(logits[eye] - kept.logsumexp(dim=1)).mean()
    positive = targets.positive | eye
    kept = masked(logits, targets.negative | positive)
    each = logits - kept.logsumexp(dim=1, keepdim=True)
    per_row = each.masked_fill(~positive, 0.0).sum(dim=1) / positive.sum(dim=1)
    return -per_row.mean()
