"""The base of every Lightning module: seeded steps, the optimizer step, the divergence check.

Lightning's own validation loop is not used: `progress` calls `validation` after the steps that are
due, before it writes a resume point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.training.gather import sum_gradients
from neurosearch.training.progress import MONITOR
from neurosearch.training.schedule import Schedule, optimizer_of


class TrainingModule(lightning.LightningModule):
    """A network in training. Subclasses have `training_step` and `validate`.

    Class attributes:
        monitor: the name of what `validate` returns; more is better.
        rate_key: config key of the learning rate, for the message of a diverged training.
        starts_good: whether it is validated before its first step too (training may make
            it worse).

    Attributes:
        schedule: of the optimisation.
        steps: how many steps the training takes.
    """

    monitor: ClassVar[str] = MONITOR
    rate_key: ClassVar[str]
    starts_good: ClassVar[bool] = False
    schedule: Schedule
    steps: int

    def __init__(self) -> None:
        super().__init__()
        self._losses: list[Tensor] = []  # since the last validation

    def configure_optimizers(self) -> Any:
        return optimizer_of(self, self.schedule, self.steps)

    def seed_step(self, step: int) -> None:
        """Make dropout a function of the step: a resumed training draws what it would have drawn.

        Processes that share a batch draw different numbers.
        """
        torch.manual_seed(self.schedule.seed * 1_000_003 + step + (world()[0] << 40))

    def optimize(
        self, loss: Tensor, weights: Iterable[nn.Parameter], logged: Tensor | None = None
    ) -> None:
        """Backward and one optimizer step of a module with `automatic_optimization = False`.

        Args:
            loss: this process's part of the batch's loss; a scalar.
            weights: those whose gradients are summed over processes.
            logged: the whole batch's loss where `loss` is a part of it.
        """
        self.optimize_by(lambda: self._backward(loss), weights, logged)

    def optimize_by(
        self,
        backward: Callable[[], Tensor],
        weights: Iterable[nn.Parameter],
        logged: Tensor | None = None,
    ) -> None:
        """As `optimize`, where `backward` computes the gradients itself and returns the loss."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        loss = backward()
        sum_gradients(weights)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.schedule.clip)
        self.log("gradient norm", norm)
        optimizer.step()
        scheduler: Any = self.lr_schedulers()
        scheduler.step()
        self.note_loss(loss.detach() if logged is None else logged)

    def _backward(self, loss: Tensor) -> Tensor:
        self.manual_backward(loss)
        return loss

    def note_loss(self, loss: Tensor) -> None:
        """Log a step's loss, and keep it for the divergence check."""
        self._losses.append(loss)
        self.log("loss", loss)

    def validate(self) -> Any:
        """The score by which the best weights are chosen."""
        raise TypeError(f"{type(self).__name__} does not say how it is validated")

    def validation(self) -> dict[str, float]:
        """Metrics by name, `monitor` among them. Raises InputError where the training diverged."""
        self.check_losses()
        score = float(self.validate())
        self.check_finite([torch.tensor(score)])
        return {self.monitor: score}

    def check_losses(self) -> None:
        """Raise InputError where a loss since the last validation was not finite."""
        losses, self._losses = self._losses, []
        self.check_finite(losses)

    def check_finite(self, values: Sequence[Tensor]) -> None:
        """Raise InputError where one of these scalars of the last steps is not finite."""
        finite = [bool(value.isfinite().all()) for value in values]
        if not all(finite):
            step = self.global_step - len(finite) + finite.index(False) + 1
            hint = f"a lower {self.rate_key} may help"
            raise InputError(f"training diverged at step {step}: a loss is not finite; {hint}")
