"""The one place that builds a Lightning Trainer: resumes it, keeps the best, stops early.

Checkpoints lie in the artifact's unfinished folder, so a killed training goes on from its last
one when the same command is run again, with optimizer, schedule and step count intact. Data
order and dropout are functions of (seed, step), so a resumed run sees what it would have seen.
"""

from __future__ import annotations

import csv
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.errors import InputError
from neurosearch.processes import barrier, world
from neurosearch.recipe import Recipe, within
from neurosearch.runtime import Runtime, log

MONITOR = "dev nDCG@10"
DECAYS = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class Schedule(Recipe):
    """Optimisation.

    Attributes:
        epochs: over the training pairs.
        lr, weight_decay: of AdamW.
        warmup: share of the steps over which the rate rises.
        decay: `linear` or `cosine` to zero, or `constant`.
        clip: norm of the gradient.
        validations: evenly spread over the training; the last step is always one.
        patience: validations without improvement before stopping; 0 for never.
        overfit: every step is the first one's batch again, to see whether a model can learn it.
    """

    epochs: float = 3.0
    lr: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    decay: str = "linear"
    clip: float = 1.0
    validations: int = 4
    patience: int = 3
    seed: int = 0
    overfit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        within("schedule.epochs", self.epochs, above=0)
        within("schedule.lr", self.lr, above=0)
        within("schedule.weight_decay", self.weight_decay, least=0)
        within("schedule.warmup", self.warmup, least=0, most=1)
        within("schedule.clip", self.clip, above=0)
        within("schedule.validations", self.validations, least=1)
        within("schedule.patience", self.patience, least=0)
        if self.decay not in DECAYS:
            told = ", ".join(DECAYS)
            raise InputError(f"schedule.decay must be one of {told}, not {self.decay!r}")


def learning_rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the rate is multiplied by at a step."""
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


def fit(
    module: Any,
    steps: int,
    schedule: Schedule,
    folder: Path,
    runtime: Runtime,
    monitor: str = MONITOR,
) -> dict[str, Any]:
    """Train `module` for `steps` and load its best checkpoint (most of `monitor`) into it.

    `module.training_step` is given the number of the step and draws its batch itself, so that
    nothing is read ahead of what a step may change (mined negatives). The module logs `monitor`
    at a validation's end. Curves go to `folder`/curves.csv. Returns what happened, for the
    manifest.
    """
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger
    from torch.utils.data import DataLoader, IterableDataset

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    device = runtime.torch_device()
    torch.set_float32_matmul_precision("high")
    checkpoints = folder / "checkpoints"
    every = max(1, steps // max(1, schedule.validations))
    resume = checkpoints / "resume.ckpt"
    start = _steps_of(resume)
    if start:
        log.info("training goes on from step %d of %d", start, steps)
    best = ModelCheckpoint(
        checkpoints,
        "best",
        monitor,
        mode="max",
        save_weights_only=True,
        enable_version_counter=False,
    )

    class ResumePoint(pl.Callback):
        """Saves all there is every so many seconds, as one file that is whole or not there."""

        saved = time.monotonic()

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            due = time.monotonic() - self.saved >= runtime.checkpoint_seconds
            if trainer.strategy.broadcast(due):  # all processes write it, or none
                trainer.save_checkpoint(resume.with_suffix(".tmp"))
                if trainer.is_global_zero:
                    resume.with_suffix(".tmp").replace(resume)
                self.saved = time.monotonic()

    class Searched(pl.Callback):
        """Tells a search how the training goes; `on_validation_end` comes after the score."""

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            score = trainer.callback_metrics.get(monitor)
            if score is not None:
                runtime.pruner.report(int(trainer.global_step), float(score))

    rank, processes = world()
    callbacks: list[Any] = [best, ResumePoint()]
    if runtime.pruner is not None and monitor == MONITOR:
        callbacks.append(Searched())
    if schedule.patience:
        callbacks.append(EarlyStopping(monitor, mode="max", patience=schedule.patience))
    where: dict[str, Any] = {"devices": [device.index or 0] if device.type == "cuda" else 1}
    if processes > 1:
        where = {"devices": processes, **_together()}
    trainer: Any = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        **where,
        precision="bf16-mixed" if runtime.half(device) else "32-true",
        max_steps=steps,
        max_epochs=-1,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=CSVLogger(folder / "segments", name="", version=f"{start:09d}"),
        log_every_n_steps=max(1, min(20, steps // 10)),
        enable_progress_bar=False,  # its own would count epochs, of which there are none
        enable_model_summary=False,
    )

    class FromStep(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter([0] * (steps - start) if schedule.overfit else range(start, steps))

    loader: Any = DataLoader(FromStep(), batch_size=None)
    nothing: Any = [0]  # validation retrieves at its end and needs no batches
    never: Any = DataLoader(nothing, batch_size=None)
    try:
        resumed = str(resume) if start else None
        with runtime.progressing("training", steps) as advance:
            advance(start)
            step = LambdaCallback(on_train_batch_end=lambda *_: advance(1))
            trainer.callbacks.append(step)
            trainer.fit(module, loader, never, ckpt_path=resumed, weights_only=False)
    except InputError:  # it diverged: what it left is not to be gone on with
        shutil.rmtree(checkpoints, ignore_errors=True)
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    done = int(trainer.global_step)
    if best.best_model_path:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=False)
        module.load_state_dict(state["state_dict"])
    score = None if best.best_model_score is None else float(best.best_model_score)
    barrier()  # all have read the best one
    if rank == 0:
        _join_curves(folder)
        shutil.rmtree(checkpoints, ignore_errors=True)
    if schedule.overfit and (losses := curves_of(folder / "curves.csv").get("loss")):
        first, last = losses[0][1], losses[-1][1]
        runtime.say(f"overfitting one batch: the loss went from {first:.4f} to {last:.4f}")
    return {"steps": done, "planned steps": steps, f"best {monitor}": score, "resumed at": start}


def _together() -> dict[str, Any]:
    """Options of a Trainer in one of several processes that share each batch (`encoder.gather`).

    Lightning's DDP would average gradients of batches of their own; ours are parts of one batch,
    whose gradients the module adds up itself, so the model is not wrapped.
    """
    import torch.distributed as dist
    from lightning_fabric.plugins.environments import (  # type: ignore[attr-defined]
        LightningEnvironment,
    )
    from pytorch_lightning.strategies import DDPStrategy

    class SharedBatches(DDPStrategy):
        def configure_ddp(self) -> None:
            """The module itself; all processes begin with rank 0's weights."""
            assert self.lightning_module is not None
            for weight in self.lightning_module.state_dict().values():
                dist.broadcast(weight, 0)

    return {"strategy": SharedBatches(), "plugins": [LightningEnvironment()]}


def _join_curves(folder: Path) -> None:
    """curves.csv of the segments that kills cut a training into; in order of steps."""
    import polars as pl

    segments = [pl.read_csv(p) for p in sorted((folder / "segments").rglob("metrics.csv"))]
    if segments:
        joined = pl.concat(segments, how="diagonal_relaxed").sort("step", maintain_order=True)
        joined.write_csv(folder / "curves.csv")
    shutil.rmtree(folder / "segments", ignore_errors=True)


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


def _steps_of(checkpoint: Path) -> int:
    """How many steps the checkpoint has seen; 0 where it isn't there or can't be read."""
    import torch

    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=False)
    except (OSError, RuntimeError, EOFError, ValueError):
        return 0
    return int(state["global_step"])
