"""What would be built and what is there already, as a tree, without building anything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
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
        tree = _Tree(self.depth)
        for planned in _jobs(job):
            label, targets = _targets(planned)
            overrides = " ".join(planned.overrides)
            console.print(f"[bold]{label}[/bold] [dim]{overrides}[/dim]")
            tree.wanted = {target.stored().address for target in targets}
            for target in targets:
                if not tree.is_told(target, planned.runtime.store):
                    for line in tree.lines(target, planned.runtime.store, 1, True):
                        console.print(line)
        there = len(tree.told - tree.gone)
        console.print(f"{len(tree.waiting)} artifacts to build, {there} there already")


@dataclass
class _Tree:
    """Attributes:
    wanted: what the job asks for itself, wherever it stands.
    told: what has a line already; gone: of that, what isn't there; waiting: what will be built.
    """

    depth: int
    wanted: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)

    def is_told(self, artifact: Artifact[Any], store: Store) -> bool:
        """Whether a line says all about what the job needs of it."""
        key = artifact.stored().address
        built = store.manifest(artifact) is not None
        return key in self.told and (built or key in self.waiting)

    def lines(
        self, artifact: Artifact[Any], store: Store, level: int, needed: bool
    ) -> Iterator[str]:
        """An artifact and what it stands on; under a finished one nothing is `needed`."""
        artifact = artifact.stored()
        key, manifest = artifact.address, store.manifest(artifact)
        needed = needed or key in self.wanted
        repeated = self.is_told(artifact, store) if needed else key in self.told
        self.told.add(key)
        if manifest is not None:
            size = sum(entry[0] for entry in manifest["files"].values())
            age = _age(manifest["created"])
            state = f"[green]there[/green] {size / 1e6:.1f} MB, {manifest['seconds']:.1f} s, {age}"
        else:
            self.gone.add(key)
            state = "[yellow]to build[/yellow]" if needed else "[dim]gone, and not needed[/dim]"
            self.waiting |= {key} if needed else set()
        again = " [dim](see above)[/dim]" if repeated else ""
        name = f"{artifact.kind} {artifact.artifact_fingerprint[:8]}"
        yield f"{'  ' * level}{name}: {state}{again}"
        if repeated or level >= self.depth:
            return
        for source in artifact.inputs():
            yield from self.lines(source, store, level + 1, needed and manifest is None)


def _targets(job: Job) -> tuple[str, list[Artifact[Any]]]:
    """The row's name, and what its task asks for: a run, its metrics, what serves; or IDs."""
    data = job.dataset
    if job.config.get("tokenizer") is not None:
        tokenizer = tokenizer_of(job)
        choice = next((o for o in job.overrides if o.startswith("tokenizer=")), "")
        name = choice.partition("=")[2] or type(tokenizer).__name__
        return name, [health_of(tokenizer, data)]
    topics = job.evaluation.topics(job.query)
    latency = job.evaluation.latency_of(job.retriever, data, job.query)
    wanted: list[Artifact[Any]] = [
        job.evaluation.metrics(job.retriever, data, job.query),
        job.retriever.run(data, topics),
        data,
        *job.retriever.serving(data, topics),
        *([] if latency is None else [latency]),
    ]
    return job.retriever.label(), wanted


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
    if hydra.mode == RunMode.MULTIRUN or not params or hydra.sweeper.get("n_trials"):
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
