"""Where the time of a training step goes, by one and by several processes, a GPU each.

The device is waited for at both ends of every phase, so a step takes longer than in devices.py, and
what usually overlaps is counted apart. A phase's time is without that of phases inside it. `rest`
is what no phase covers: numbering the batch, logging, Lightning's own work. Processes wait for one
another in `gather` and `gradients`. As CSV in results/phases.csv: milliseconds a step, the mean of
the processes; `ideal` is the speed-up if this phase alone took as long as with one process and all
others were shared perfectly.

    python experiments/speed/phases.py data=home_depot +processes=[1,2]  # NEUROSEARCH_DATA is set
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from devices import steady, trainings, write
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, open_dict

from neurosearch.core.artifact import Artifact
from neurosearch.core.distributed import build_together, world
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.runtime import Runtime
from neurosearch.task.base import build

KEYS = ("case", "processes", "batch", "hardware")  # of a training's rows
WARM = 5  # steps that are not counted
CASES = ("bi-encoder", "colbert", "cross-encoder")


class Clock:
    """Seconds by phase, each without the phases inside it, of the steps after the first ones."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self._open: list[list[float]] = []  # of each phase now running: the time of those inside

    def phase(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed while a step runs."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if not self._open and name != "rest":
                return function(*arguments, **options)
            start = self._now()
            self._open.append([0.0])
            result = function(*arguments, **options)
            taken = self._now() - start
            inside = self._open.pop()[0]
            if self._open:
                self._open[-1][0] += taken
            if name == "rest":
                self.steps += 1
            if self.steps >= WARM:
                self.seconds[name] += taken - inside
            return result

        return timed

    def measure(self) -> None:
        """Replace the functions of a training by timed ones, in this process."""
        from transformers import BertModel

        from neurosearch.encoder.biencoder import pairs, training
        from neurosearch.encoder.colbert import training as late
        from neurosearch.nn import text_encoder, tokens
        from neurosearch.reranker.cross_encoder import training as cross
        from neurosearch.training import gather, module

        bi_encoder = training.BiEncoderModule
        for owner, name, phase in (
            (bi_encoder, "training_step", "rest"),
            (late.ColBERTModule, "training_step", "rest"),
            (cross.CrossModule, "training_step", "rest"),
            (pairs.PairBatches, "draw", "draw"),
            (cross.CrossModule, "draw", "draw"),
            (tokens.Tokens, "take", "tokens"),
            (text_encoder, "padded", "tokens"),
            (text_encoder, "packed", "tokens"),
            (bi_encoder, "_targets", "targets"),
            (BertModel, "forward", "network"),
            (text_encoder.TextTower, "states", "pooling"),
            (text_encoder.TextTower, "encode", "order"),
            (training, "in_order", "order"),
            (late, "in_order", "order"),
            (cross, "in_order", "order"),
            (gather, "gathered", "gather"),
            (module.TrainingModule, "log", "logging"),
            (bi_encoder, "_loss", "loss"),
            (module.TrainingModule, "manual_backward", "backward"),
            (module, "sum_gradients", "gradients"),
            (torch.nn.utils, "clip_grad_norm_", "optimizer"),
            (torch.optim.AdamW, "step", "optimizer"),
        ):
            setattr(owner, name, self.phase(phase, getattr(owner, name)))

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


@dataclass(frozen=True)
class Profiled(Artifact[Any]):
    """A training whose phases are timed; `phases-<rank>.json` has milliseconds a step."""

    kind: ClassVar[str] = "profiled"
    training: Artifact[Any]

    def build(self, folder: Path, runtime: Runtime) -> Any:
        clock = Clock()
        clock.measure()
        facts = self.training.build(folder, runtime)
        counted = clock.steps - WARM + 1
        spent = {name: 1000 * value / counted for name, value in clock.seconds.items()}
        (folder / f"phases-{world()[0]}.json").write_text(json.dumps(spent), encoding="utf-8")
        return facts


def report(
    name: str, counts: list[int], runtime: Runtime, training: Artifact[Any], batch: int
) -> None:
    """Train by so many processes, and write the phases of each count."""
    for source in training.inputs():
        runtime.store.ensure(source)
    where = {"hardware": hardware(), "commit": git_commit()}
    alone: dict[str, float] = {}
    for processes in counts:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            build_together(Profiled(training), folder, replace(runtime, devices=processes))
            ranks = [json.loads(path.read_text()) for path in folder.glob("phases-*.json")]
        spent = {phase: sum(rank[phase] for rank in ranks) / len(ranks) for phase in ranks[0]}
        alone = alone or spent
        rows = []
        for phase, each in [*spent.items(), ("step", sum(spent.values()))]:
            once = sum(alone.values()) if phase == "step" else alone.get(phase, 0.0)
            gain = round(once / each, 2) if each else ""
            ideal = once + (sum(alone.values()) - once) / max(processes, 1)
            limit = "" if phase == "step" else round(sum(alone.values()) / ideal, 2)
            row = {"case": name, "processes": processes, "batch": batch, "phase": phase}
            rows.append({**row, "ms": round(each, 2), "gain": gain, "ideal": limit, **where})
            print(rows[-1], flush=True)
        write("phases.csv", KEYS, rows)


def main() -> None:
    """Measure each training, and write its rows as they come."""
    own = [word[1:] for word in sys.argv[1:] if word.startswith("+")]
    given = [word for word in sys.argv[1:] if not word.startswith("+")]
    settings = DictConfig({"processes": [1, 2], "only": "", "scale": 1})
    with open_dict(settings):
        settings.merge_with_dotlist(own)

    def config(overrides: list[str]) -> Any:
        return compose("config", [*overrides, *given])

    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        runtime = build(config([]), "runtime")
        device = runtime.torch_device().type
        with tempfile.TemporaryDirectory() as folder:
            cases = trainings(config, steady(Path(folder) / "steady"), device, settings.scale)
            for name in CASES:
                if settings.only in name:
                    report(name, settings.processes, runtime, *cases[name])


if __name__ == "__main__":
    main()
