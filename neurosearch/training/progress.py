"""What a training must not lose when it is killed: its resume points, best weights and curve."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.digests import file_digest
from neurosearch.core.runtime import Runtime
from neurosearch.training.pace import Pace
from neurosearch.training.resume import save_resume_point
from neurosearch.training.schedule import Schedule

MONITOR = "dev nDCG@10"


@dataclass
class Progress:
    """What a training must not lose: best score, patience, curve; and the files that keep it.

    Attributes:
        best: score of the best validation so far, None before the first; best_step: its step.
        best_digest: of the best weights' file, so that a damaged one is noticed on resuming.
        waited: validations since then.
        curve: (step, metric, value) points, steps counted from 0.
    """

    folder: Path
    schedule: Schedule
    steps: int
    monitor: str
    runtime: Runtime
    pace: Pace
    best: float | None = None
    best_step: int = 0
    best_digest: str = ""
    waited: int = 0
    curve: list[tuple[int, str, float]] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.due = self.schedule.validation_steps(self.steps)
        self.logged_every = max(1, min(20, self.steps // 10))

    @property
    def best_path(self) -> Path:
        return self.folder / f"best-{self.best_step:09d}.pt"

    def state(self) -> dict[str, Any]:
        """Plain values, to be part of a resume point."""
        kept = {key: getattr(self, key) for key in ("best", "best_step", "best_digest", "waited")}
        return {**kept, "curve": [list(point) for point in self.curve]}

    def restore(self, state: dict[str, Any]) -> None:
        for key in ("best", "best_step", "best_digest", "waited"):
            setattr(self, key, state[key])
        self.curve = [(int(step), str(name), float(value)) for step, name, value in state["curve"]]

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Add metrics of a finished step to the curve."""
        at = max(0, step - 1)
        self.curve += [(at, name, float(value)) for name, value in metrics.items()]

    def validate(self, trainer: Any, module: Any) -> None:
        """Validate, keep the weights where they are the best so far, stop where patience ends."""
        import torch

        step = int(trainer.global_step)
        with _evaluating(module):
            metrics = module.validation()
        self.log(step, metrics)
        score = float(metrics[self.monitor])
        if self.best is None or score > self.best:
            self.best, self.best_step, self.waited = score, step, 0
            if trainer.is_global_zero:
                temporary = self.best_path.with_suffix(".tmp")
                torch.save(module.state_dict(), temporary)
                self.best_digest = file_digest(temporary)
                temporary.replace(self.best_path)
        else:
            self.waited += 1
            trainer.should_stop = 0 < self.schedule.patience <= self.waited
        if self.runtime.pruner is not None and self.monitor == MONITOR:
            self.runtime.pruner.report(step, score)

    def save(self, trainer: Any) -> None:
        """Write a resume point every `checkpoint_seconds`."""
        several = trainer.world_size > 1
        if several and trainer.global_step % self.logged_every:
            return  # to agree takes them longer than to look at the time
        due = time.monotonic() - self.saved >= self.runtime.checkpoint_seconds
        if several:
            due = trainer.strategy.broadcast(due)  # all processes write it, or none
        if not due:
            return
        with self.pace.paused():
            save_resume_point(trainer, self.folder, self.best_path.name)
        self.saved = time.monotonic()

    def write_curves(self, path: Path) -> None:
        """curves.csv: a row a step, a column a metric."""
        names = sorted({name for _, name, _ in self.curve})
        rows: dict[int, dict[str, float]] = {}
        for step, name, value in sorted(self.curve, key=lambda point: point[0]):
            rows.setdefault(step, {})[name] = value
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["step", *names])
            for step, values in rows.items():
                writer.writerow([step, *(values.get(name, "") for name in names)])


def callback_of(progress: Progress, advance: Any) -> Any:
    """The Lightning callback of a `Progress`."""
    import pytorch_lightning as pl

    class Watch(pl.Callback):
        state_key = "Progress"

        def on_train_start(self, trainer: Any, module: Any) -> None:
            if module.starts_good and not trainer.global_step:
                progress.validate(trainer, module)

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            advance(1)
            progress.pace.step()
            step = int(trainer.global_step)
            if step % progress.logged_every == 0 or step == progress.steps:
                progress.log(step, trainer.callback_metrics)
            if step in progress.due:
                with progress.pace.paused():
                    progress.validate(trainer, module)
            progress.save(trainer)  # last, so that a step's resume point holds all of the above

        def state_dict(self) -> dict[str, Any]:
            return progress.state()

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            progress.restore(state_dict)

    return Watch()


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode without gradients; every part's own mode comes back afterwards."""
    import torch

    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
