"""Resume points of a training: written whole, verified by their digest when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurosearch.core.digests import file_digest
from neurosearch.core.machine import log


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


def save_resume_point(trainer: Any, folder: Path, best: str) -> None:
    """Write a trainer's checkpoint, then drop what only older ones need.

    Its name holds its digest, so a file of that name is what was written.

    Args:
        trainer: Lightning's; every process calls this, the first one names the file.
        folder: of the checkpoints.
        best: name of the file with the best weights, which is kept.
    """
    temporary = folder / "resume.tmp"
    trainer.save_checkpoint(temporary)
    if not trainer.is_global_zero:
        return
    name = f"resume-{int(trainer.global_step):09d}-{file_digest(temporary)}.ckpt"
    temporary.replace(folder / name)
    for path in folder.iterdir():
        if path.name not in (name, best):
            path.unlink()
