"""Optimisation: steps, learning rate, AdamW."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurosearch.core.bounds import setting
from neurosearch.core.recipe import PRECISIONS, Recipe

DECAYS = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class Schedule(Recipe):
    """Optimisation.

    Attributes:
        epochs: over the training pairs.
        most_steps: however many epochs that are; None for no limit.
        most_batch: examples of a step, whatever the batch size is; None for no limit.
        lr, weight_decay: of AdamW.
        warmup: share of the steps over which the rate rises.
        decay: `linear` or `cosine` to zero, or `constant`.
        clip: norm of the gradient.
        validations: evenly spread over the training; the last step is always one.
        patience: validations without improvement before stopping; 0 for never.
        precision: `fp32`, or `bf16` (mixed: weights stay in fp32).
        overfit: every step is the first one's batch again, to see whether a model can learn it.
    """

    epochs: float = setting(3.0, above=0)
    lr: float = setting(5e-5, above=0)
    weight_decay: float = setting(0.01, least=0)
    warmup: float = setting(0.1, least=0, most=1)
    decay: str = setting("linear", choices=DECAYS)
    clip: float = setting(1.0, above=0)
    validations: int = setting(4, least=1)
    patience: int = setting(3, least=0)
    seed: int = 0
    precision: str = setting("fp32", choices=PRECISIONS)
    most_steps: int | None = setting(None, least=1)
    most_batch: int | None = setting(None, least=2)
    overfit: bool = False

    @property
    def half(self) -> bool:
        """Whether the network runs in bf16."""
        return self.precision == "bf16"

    def steps(self, per_epoch: float) -> int:
        """Steps of the training.

        Args:
            per_epoch: steps of an epoch.

        Returns:
            At least 1.
        """
        wanted = max(1, round(self.epochs * per_epoch))
        return wanted if self.most_steps is None else min(wanted, self.most_steps)

    def batch(self, size: int) -> int:
        """Examples of a step, of a batch size.

        Args:
            size: examples, as the recipe says.

        Returns:
            Examples.
        """
        return size if self.most_batch is None else min(size, self.most_batch)

    def validation_steps(self, steps: int) -> frozenset[int]:
        """The numbers of finished steps after which a training of `steps` is validated.

        Args:
            steps: of the whole training.

        Returns:
            Numbers of steps, from 1.
        """
        spread = min(self.validations, steps)
        return frozenset(round(steps * number / spread) for number in range(1, spread + 1))


def learning_rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the learning rate is multiplied by at a step: a linear rise, then the schedule's decay.

    Args:
        schedule: its warm-up (a share of the steps) and decay.
        step: from 0.
        steps: of the whole training.

    Returns:
        0 to 1.
    """
    import math

    rise = max(1, round(schedule.warmup * steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    if schedule.decay == "constant":
        return 1.0
    if schedule.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return max(0.0, 1 - done)


def optimizer_of(
    module: Any, schedule: Schedule, steps: int, slow: Any = None, factor: float = 1.0
) -> dict[str, Any]:
    """AdamW (no decay on biases, norms and scalars) with its schedule, as Lightning wants them.

    `slow`: a part of the module whose rate is `factor` times the schedule's.

    Args:
        module: whose parameters are trained.
        schedule: of the rates.
        steps: of the whole training.
        slow: a part of the module with a rate of its own; None for none.
        factor: that part's rate, as a share of the schedule's.

    Returns:
        Optimizer and scheduler, in Lightning's form.
    """
    import torch

    trained = [p for p in module.parameters() if p.requires_grad]
    held = set() if slow is None else {id(p) for p in slow.parameters()}
    groups = [
        {"params": [p for p in trained if (p.ndim >= 2, id(p) in held) == key], **options}
        for key, options in (
            ((True, False), {"weight_decay": schedule.weight_decay}),
            ((False, False), {"weight_decay": 0.0}),
            ((True, True), {"weight_decay": schedule.weight_decay, "lr": factor * schedule.lr}),
            ((False, True), {"weight_decay": 0.0, "lr": factor * schedule.lr}),
        )
    ]
    groups = [group for group in groups if group["params"]]
    fused = trained[0].device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(groups, lr=schedule.lr, fused=fused)
    rule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(schedule, step, steps)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rule, "interval": "step"}}
