"""What would be built and what is there already, as a tree, without building anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.store import HELD, Store
from neurosearch.task.base import Job, Task
from neurosearch.task.evaluate import Evaluate
from neurosearch.task.jobs import composed_jobs
from neurosearch.task.tokenize import Tokenize, tokenizer_of
from neurosearch.tokenizer.health import health_of


@dataclass(frozen=True)
class Plan(Task):
    """`depth`: levels of the tree that are shown."""

    depth: int = setting(6, least=1)

    def run(self, job: Job) -> None:
        from rich.console import Console

        console = Console(width=110, highlight=False)
        tree = _Tree(self.depth)
        faults = []
        for task, planned in _jobs(job):
            try:
                task.check(planned)
                label, targets = _targets(planned)
            except InputError as error:
                faults.append(str(error))
                console.print(f"[red]can't work[/red] {' '.join(planned.overrides)}: {error}")
                continue
            overrides = " ".join(planned.overrides)
            console.print(f"[bold]{label}[/bold] [dim]{overrides}[/dim]")
            tree.wanted = {target.stored().address for target in targets}
            for target in targets:
                if not tree.is_told(target, planned.runtime.store):
                    for line in tree.lines(target, planned.runtime.store, 1, True):
                        console.print(line)
        there = len(tree.walked.keys() - tree.gone)
        console.print(f"{len(tree.waiting)} artifacts to build, {there} there already")
        hidden = len(tree.waiting - tree.printed)
        if hidden:
            console.print(f"{hidden} of them are below level {self.depth}: task.depth shows more")
        if faults:
            raise InputError(
                f"{len(faults)} of the jobs can't work: {'; '.join(dict.fromkeys(faults))}"
            )


@dataclass
class _Tree:
    """Attributes:
    wanted: what the job asks for itself, wherever it stands.
    printed: what has a line already.
    walked: all that was come by, however deep; True where it was for something to be built.
    gone: of that, what isn't there; waiting: what will be built.
    """

    depth: int
    wanted: set[str] = field(default_factory=set)
    printed: set[str] = field(default_factory=set)
    walked: dict[str, bool] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)

    def is_told(self, artifact: Artifact[Any], store: Store) -> bool:
        """Whether a line says all about what the job needs of it."""
        key = artifact.stored().address
        built = store.manifest(artifact) is not None
        return key in self.printed and (built or key in self.waiting)

    def lines(
        self, artifact: Artifact[Any], store: Store, level: int, needed: bool
    ) -> Iterator[str]:
        """An artifact and what it stands on; under a finished one nothing is `needed`.

        What is too deep to be shown is counted.
        """
        artifact = artifact.stored()
        key, manifest = artifact.address, store.manifest(artifact)
        if manifest is not None and artifact.missing(store.folder(artifact), store.runtime):
            manifest = None
        needed = needed or key in self.wanted
        repeated = self.is_told(artifact, store) if needed else key in self.printed
        shown = level <= self.depth
        known = key in self.walked and (self.walked[key] or not needed)
        self.walked[key] = needed or self.walked.get(key, False)
        if manifest is not None:
            size = sum(entry[0] for entry in manifest["files"].values())
            age = _age(manifest["created"])
            size += manifest["details"].get(HELD, 0)
            state = f"[green]there[/green] {size / 1e6:.1f} MB, {manifest['seconds']:.1f} s, {age}"
        else:
            self.gone.add(key)
            state = "[yellow]to build[/yellow]" if needed else "[dim]gone, and not needed[/dim]"
            self.waiting |= {key} if needed else set()
        again = " [dim](see above)[/dim]" if repeated else ""
        name = f"{artifact.kind} {artifact.artifact_fingerprint[:8]}"
        if shown:
            self.printed.add(key)
            yield f"{'  ' * level}{name}: {state}{again}"
        if repeated or (known and not shown):
            return
        for source in artifact.inputs():
            yield from self.lines(source, store, level + 1, needed and manifest is None)


def _targets(job: Job) -> tuple[str, list[Artifact[Any]]]:
    """The row's name, and what its task asks for: a run, its metrics, what serves; or IDs."""
    if job.config.get("tokenizer") is not None:
        tokenizer = tokenizer_of(job)
        choice = next((o for o in job.overrides if o.startswith("tokenizer=")), "")
        name = choice.partition("=")[2] or type(tokenizer).__name__
        return name, [health_of(tokenizer, job.dataset)]
    return job.retriever.label(), Evaluate().targets(job)


def _age(created: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} old"
    return "just built"


def _jobs(job: Job) -> Iterator[tuple[Task, Job]]:
    """The job itself, or each job of the experiment's own sweep where there is one."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    params = hydra.sweeper.get("params") or {}
    if hydra.mode == RunMode.MULTIRUN or not params or hydra.sweeper.get("n_trials"):
        yield _checker(job), job
        return
    for planned in composed_jobs(hydra, job.folder):
        yield _checker(planned), planned


def _checker(job: Job) -> Task:
    """The task that would run it."""
    return Evaluate() if job.config.get("tokenizer") is None else Tokenize()
