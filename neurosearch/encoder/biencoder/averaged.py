"""The mean of the weights of several trainings ("model soups", Wortsman et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime


@dataclass(frozen=True)
class AveragedWeights(Artifact[Path]):
    """The mean of the weights of several trainings of one recipe."""

    kind: ClassVar[str] = "averaged_weights"
    trainings: tuple[Artifact[Path], ...]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import torch
        from safetensors.torch import load_file, save_file

        folders = [runtime.get(training) for training in self.trainings]
        for source in sorted(folders[0].glob("*.safetensors")):
            parts = [load_file(str(other / source.name)) for other in folders]
            mean = {
                name: torch.stack([part[name].double() for part in parts]).mean(0).to(like.dtype)
                for name, like in parts[0].items()
            }
            save_file(mean, str(folder / source.name))
        return {"trainings": len(folders)}

    def load(self, folder: Path) -> Path:
        return folder
