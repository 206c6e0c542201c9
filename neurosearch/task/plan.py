"""What would be built and what is there already, as a tree, without building anything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from neurosearch.artifact import Artifact, Store
from neurosearch.task.base import Job, Task
from neurosearch.task.tokenize import tokenizer_of
from neurosearch.tokenizer.health import health_of


@dataclass(frozen=True)
class Plan(Task):
    """`depth`: levels of the tree that are shown."""

    depth: int = 6

    def run(self, job: Job) -> None:
        from rich.console import Console

        console = Console(width=110, highlight=False)
        seen: set[str] = set()
        waiting: set[str] = set()
        for planned in _jobs(job):
            label, targets = _targets(planned)
            overrides = " ".join(planned.overrides)
            console.print(f"[bold]{label}[/bold] [dim]{overrides}[/dim]")
            for target in targets:
                for line in self._lines(target, planned.runtime.store, 1, seen, waiting):
                    console.print(line)
        built = len(seen) - len(waiting)
        console.print(f"{len(waiting)} artifacts to build, {built} there already")

    def _lines(
        self,
        artifact: Artifact[Any],
        store: Store,
        level: int,
        seen: set[str],
        waiting: set[str],
        needed: bool = True,
    ) -> Iterator[str]:
        """An artifact and what it stands on; under a finished one nothing is `needed`."""
        key = f"{artifact.kind}/{artifact.artifact_fingerprint}"
        manifest = store.manifest(artifact)
        repeated = key in seen
        if manifest is not None:
            seen.add(key)
            size = sum(entry[0] for entry in manifest["files"].values())
            age = _age(manifest["created"])
            state = f"[green]there[/green] {size / 1e6:.1f} MB, {manifest['seconds']:.1f} s, {age}"
        elif needed:
            seen.add(key)
            waiting.add(key)
            state = "[yellow]to build[/yellow]"
        else:
            state = "[dim]gone, and not needed[/dim]"
        again = " [dim](see above)[/dim]" if repeated else ""
        name = f"{artifact.kind} {artifact.artifact_fingerprint[:8]}"
        yield f"{'  ' * level}{name}: {state}{again}"
        if repeated or level >= self.depth:
            return
        below = needed and manifest is None
        for source in artifact.inputs():
            yield from self._lines(source, store, level + 1, seen, waiting, below)


def _targets(job: Job) -> tuple[str, list[Artifact[Any]]]:
    """The row's name, and what its task would have built: a run's metrics, or semantic IDs."""
    data = job.data.dataset()
    if job.config.get("tokenizer") is not None:
        tokenizer = tokenizer_of(job)
        choice = next((o for o in job.overrides if o.startswith("tokenizer=")), "")
        name = choice.partition("=")[2] or type(tokenizer).__name__
        return name, [health_of(tokenizer, data)]
    metrics = job.evaluation.metrics(job.retriever, data, job.query)
    latency = job.evaluation.latency_of(job.retriever, data, job.query)
    timed: list[Artifact[Any]] = [] if latency is None else [latency]
    return job.retriever.label(), [metrics, *timed]


def _age(created: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} old"
    return "just built"


def _jobs(job: Job) -> Iterator[Job]:
    """The job itself, or each job of the experiment's own sweep where there is one."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    params = hydra.sweeper.get("params") or {}
    if hydra.mode == RunMode.MULTIRUN or not params:
        yield job
        return
    typed = list(hydra.overrides.task)
    named = {override.split("=")[0].lstrip("+") for override in typed}
    swept = [f"{key}={value}" for key, value in params.items() if key not in named]
    parser = OverridesParser.create()
    choices = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in parser.parse_overrides(swept)
    ]
    for number, combination in enumerate(itertools.product(*choices)):
        overrides = [*typed, *(str(choice) for choice in combination)]
        config = compose("config", overrides=overrides)
        yield Job.compose(config, combination, number, job.folder)
