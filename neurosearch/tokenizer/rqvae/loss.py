"""The loss of an RQ-VAE's levels (van den Oord et al. 2017; Lee et al. 2022).

The training adds the reconstruction's loss: |x' - x|^2 of the standardised vectors.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import mse_loss


def level_loss(recipe: Any, left: Tensor, chosen: Tensor, distances: Tensor) -> Tensor:
    """What binds encoder and codebook of one level together.

    beta |r - sg[e]|^2, plus |sg[r] - e|^2 where the codebook learns by gradient (else it is a
    moving average), plus the negative entropy of the soft use of the codes, which spreads it.

    Args:
        recipe: an `RQVAE`: `beta`, `codebook`, `diversity`.
        left: B×D residuals r before the level.
        chosen: B×D codewords e.
        distances: B×K squared distances of the residuals to all codewords.

    Returns:
        A scalar.
    """
    loss: Tensor = recipe.beta * mse_loss(left, chosen.detach())
    if recipe.codebook == "gradient":
        loss = loss + mse_loss(chosen, left.detach())
    if recipe.diversity:
        usage = (-distances / distances.mean().detach()).softmax(dim=1).mean(dim=0)
        loss = loss + recipe.diversity * (usage * usage.clamp(min=1e-9).log()).sum()
    return loss
