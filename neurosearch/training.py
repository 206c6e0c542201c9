"""The one place that builds a Lightning Trainer: validates, keeps the best, resumes, stops early.

Resume points lie in the artifact's unfinished folder, so a killed training continues from its last
one when the same command is run again, with optimizer, schedule, step count, best score and curve
intact. Data order and dropout are functions of (seed, step), so a resumed run sees what it would
have seen. A step's validation always comes before its resume point: a kill at any moment leads to
the same best weights and the same curve (`Progress`).
"""

from __future__ import annotations

import csv
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.errors import InputError
from neurosearch.processes import barrier, world
from neurosearch.recipe import PRECISIONS, Recipe, file_digest, one_of, within
from neurosearch.runtime import Runtime, log

MONITOR = "dev nDCG@10"
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

    epochs: float = 3.0
    lr: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    decay: str = "linear"
    clip: float = 1.0
    validations: int = 4
    patience: int = 3
    seed: int = 0
    precision: str = "fp32"
    most_steps: int | None = None
    most_batch: int | None = None
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
        within("schedule.most_steps", self.most_steps, least=1)
        within("schedule.most_batch", self.most_batch, least=2)
        one_of("schedule.decay", self.decay, DECAYS)
        one_of("schedule.precision", self.precision, PRECISIONS)

    @property
    def half(self) -> bool:
        """Whether the network runs in bf16."""
        return self.precision == "bf16"

    def steps(self, per_epoch: float) -> int:
        """Steps of the training."""
        wanted = max(1, round(self.epochs * per_epoch))
        return wanted if self.most_steps is None else min(wanted, self.most_steps)

    def batch(self, size: int) -> int:
        """Examples of a step, of a batch size."""
        return size if self.most_batch is None else min(size, self.most_batch)

    def validation_steps(self, steps: int) -> frozenset[int]:
        """The numbers of finished steps after which a training of `steps` is validated."""
        spread = min(self.validations, steps)
        return frozenset(round(steps * number / spread) for number in range(1, spread + 1))


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
    """Train `module` for `steps` and load its best weights (most of `monitor`) into it.

    `module.training_step` is given the number of the step and draws its batch itself, so that
    nothing is read ahead of what a step may change (mined negatives). `module.validation` returns
    metrics by name, `monitor` among them. Curves go to `folder`/curves.csv. Returns what happened,
    for the manifest.
    """
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    device = runtime.torch_device()
    rank, processes = world()
    checkpoints = folder / "checkpoints"
    resume, start = resume_point(checkpoints)
    barrier()  # all have looked for a resume point before anything is deleted or made
    if rank == 0 and resume is None:
        shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(exist_ok=True)
    if start:
        log.info("training resumes at step %d of %d", start, steps)
    progress = Progress(checkpoints, schedule, steps, monitor, runtime)
    where: dict[str, Any] = {"devices": [device.index or 0] if device.type == "cuda" else 1}
    plugins: list[Any] = [_plain_files()]
    if processes > 1:
        strategy, environment = _together()
        where = {"devices": processes, "strategy": strategy}
        plugins.append(environment)

    class FromStep(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter([0] * (steps - start) if schedule.overfit else range(start, steps))

    loader: Any = DataLoader(FromStep(), batch_size=None)
    with runtime.progressing("training", steps) as advance, _fast_products():
        advance(start)
        trainer: Any = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            **where,
            plugins=plugins,
            precision="bf16-mixed" if schedule.half else "32-true",
            max_steps=steps,
            max_epochs=-1,
            callbacks=[_callback(progress, advance)],
            logger=False,  # `Progress` keeps the curve,
            enable_checkpointing=False,  # and the checkpoints
            enable_progress_bar=False,  # its own would count epochs, of which there are none
            enable_model_summary=False,
        )
        path = None if resume is None else str(resume)
        try:
            trainer.fit(module, loader, ckpt_path=path, weights_only=True)
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except InputError:  # it diverged: what it left must not be resumed
            if rank == 0:
                shutil.rmtree(checkpoints, ignore_errors=True)
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt
    if progress.best is not None:
        best = torch.load(progress.best_path, map_location="cpu", weights_only=True)
        module.load_state_dict(best)
    barrier()  # all have read the best one
    if rank == 0:
        progress.write_curves(folder / "curves.csv")
        shutil.rmtree(checkpoints, ignore_errors=True)
    losses = [value for _, name, value in progress.curve if name == "loss"]
    if schedule.overfit and losses:
        told = f"the loss went from {losses[0]:.4f} to {losses[-1]:.4f}"
        runtime.say(f"overfitting one batch: {told}")
    done = int(trainer.global_step)
    score = progress.best
    return {"steps": done, "planned steps": steps, f"best {monitor}": score, "resumed at": start}


def save_weights(network: Any, path: Path) -> None:
    """Write a network's weights as safetensors: the same bytes for the same weights.

    A weight with several names is written once, under the first of them. (`save_model` of
    safetensors keeps the others in a header whose order is drawn anew.)
    """
    from safetensors.torch import save_file

    written, seen = {}, set()
    for name, weight in sorted(network.state_dict().items()):
        key = weight.data_ptr(), weight.shape
        if key not in seen or not weight.numel():
            seen.add(key)
            written[name] = weight.detach().cpu().contiguous()
    save_file(written, path)


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
        """Write a resume point every so many seconds, then drop what only older ones need.

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

    One that is damaged, or whose best weights are, is a warning and counts as none.
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


def _callback(progress: Progress, advance: Any) -> Any:
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


@contextmanager
def _fast_products() -> Iterator[None]:
    """TF32 for matrix products of a training, not for what runs after it in this process."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _plain_files() -> Any:
    """Checkpoints written where they are told to be.

    Lightning's own go through a file in the system's temporary folder, which a kill leaves there.
    """
    import torch
    from lightning_fabric.plugins import TorchCheckpointIO

    class PlainFiles(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            torch.save(checkpoint, path)

    return PlainFiles()


def _together() -> tuple[Any, Any]:
    """Strategy and environment of a Trainer in one of several processes.

    They share each batch (`encoder.gather`).
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

    return SharedBatches(), LightningEnvironment()


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
