"""The one place that builds a Lightning Trainer: validates, keeps the best, resumes, stops early.

Resume points lie in the artifact's unfinished folder, so a killed training continues from its last
one when the same command is run again, with optimizer, schedule, step count, best score and curve
intact. Data order and dropout are functions of (seed, step), so a resumed run sees what it would
have seen. A step's validation always comes before its resume point: a kill at any moment leads to
the same best weights and the same curve (`Progress`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosearch.core.distributed import barrier, world
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.runtime import Runtime
from neurosearch.training.pace import Pace
from neurosearch.training.progress import Progress, callback_of
from neurosearch.training.resume import resume_point

if TYPE_CHECKING:
    from neurosearch.training.module import TrainingModule


def fit(module: TrainingModule, folder: Path, runtime: Runtime) -> dict[str, Any]:
    """Train `module` and load its best weights (those with the highest `monitor`) into it.

    `module.training_step` is given the number of the step and draws its batch itself, so that
    nothing is read ahead of what a step may change (mined negatives). Curves go to
    `folder`/curves.csv.

    Returns:
        Steps, how many a second, best score and where it resumed, for the manifest.

    Raises:
        InputError: the training diverged.
    """
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader, IterableDataset

    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    steps, schedule, monitor = module.steps, module.schedule, module.monitor
    device = runtime.torch_device()
    rank, processes = world()
    checkpoints = folder / "checkpoints"
    resume, start = resume_point(checkpoints)
    barrier()  # every process has looked for a resume point before anything is deleted or written
    if rank == 0 and resume is None:
        shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(exist_ok=True)
    if start:
        log.info("training resumes at step %d of %d", start, steps)
    progress = Progress(checkpoints, schedule, steps, monitor, runtime, Pace(device))
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
            callbacks=[callback_of(progress, advance)],
            logger=False,  # `Progress` keeps the curve,
            enable_checkpointing=False,  # and the checkpoints
            enable_progress_bar=False,  # its own counts epochs; trainings here count steps
            enable_model_summary=False,
        )
        path = None if resume is None else str(resume)
        try:
            trainer.fit(module, loader, ckpt_path=path, weights_only=True)
        except SystemExit as error:  # what Lightning makes of Ctrl-C
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except InputError:  # it diverged: its resume points must not be used
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
        message = f"the loss went from {losses[0]:.4f} to {losses[-1]:.4f}"
        runtime.say(f"overfitting one batch: {message}")
    facts = {"steps": int(trainer.global_step), "planned steps": steps, "resumed at": start}
    if processes > 1:  # each draws its own dropout: another draw, as of another seed
        facts["processes"] = processes
    return {**facts, f"best {monitor}": progress.best, "steps a second": progress.pace.rate}


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
    """Save checkpoints directly to the given path.

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

    They share each batch (`training.gather`).
    Lightning's DDP would average gradients of separate batches; here processes share one batch,
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
