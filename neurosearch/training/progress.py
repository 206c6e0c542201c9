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
from neurosearch.core.machine import log
from neurosearch.core.runtime import Runtime
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
        self.curve += [(step - 1, name, float(value)) for name, value in metrics.items()]

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
        """Write a resume point every `checkpoint_seconds`, then drop what only older ones need.

        Its name holds its digest: what is found under the name is what was written.
        """
        due = time.monotonic() - self.saved >= self.runtime.checkpoint_seconds
        if not trainer.strategy.broadcast(due):  # all processes write it, or none
            return
        temporary = self.folder / "resume.tmp"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            name = f"resume-{int(trainer.global_step):09d}-{file_digest(temporary)}.ckpt"
            temporary.replace(self.folder / name)
            for path in self.folder.iterdir():
                if path.name not in (name, self.best_path.name):
                    path.unlink()
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


def resume_point(folder: Path) -> tuple[Path | None, int]:
    """The last resume point in a folder of checkpoints and its step; (None, 0) without one.

    One that is damaged, or whose best weights are, is ignored, with a warning.
    """
    import torch

    for path in sorted(folder.glob("resume-*.ckpt"), reverse=True):
        try:
            if file_digest(path) != path.stem.split("-")[2]:
                raise ValueError("it has other content than when it was written")
            state = torch.load(path, map_location="cpu", weights_only=True)
            kept = state["callbacks"]["Progress"]
            best = folder / f"best-{kept['best_step']:09d}.pt"
            if kept["best"] is not None and file_digest(best) != kept["best_digest"]:
                raise ValueError(f"{best.name} has other content than when it was written")
            return path, int(state["global_step"])
        except Exception as error:  # whatever a damaged file raises when it is unpickled
            log.warning("%s can't be used (%s): the training starts again", path, error)
    return None, 0


def callback_of(progress: Progress, advance: Any) -> Any:
    """The Lightning callback of a `Progress`."""
    import pytorch_lightning as pl

    class Watch(pl.Callback):
        state_key = "Progress"

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            advance(1)
            step = int(trainer.global_step)
            if step % progress.logged_every == 0 or step == progress.steps:
                progress.log(step, trainer.callback_metrics)
            if step in progress.due:
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


def curves_of(path: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) points by metric, of a training's curves.csv; none where there is no file."""
    points: dict[str, list[tuple[float, float]]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as handle:
            for line in csv.DictReader(handle):
                for metric, value in line.items():
                    if value and metric not in ("step", "epoch"):
                        points.setdefault(metric, []).append((float(line["step"]), float(value)))
    return points
