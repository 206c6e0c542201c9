"""`task=serve`: the system over HTTP, with a search page. Ctrl-C ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import look_again
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.serving.answer import last_split
from neurosearch.serving.server import ServerSettings, serve
from neurosearch.serving.systems import Compose, Composed
from neurosearch.task.base import Job, Task


@dataclass(frozen=True)
class Serve(Task):
    """Attributes:
    systems: several systems at once, by name: a choice of `retriever`, or overrides in quotes, such
        as `{words: bm25, vectors: "retriever=dense query=chain"}`; none for the composed one alone.
    server: where it listens, limits, cache, log, keys.
    """

    systems: Mapping[str, str] | None = None
    server: ServerSettings = field(default_factory=ServerSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (self.systems or {}).items():
            if not isinstance(value, str) or not value.strip():
                message = f"{name}: {value!r} is no choice of retriever, such as bm25"
                raise self.error("systems", f"has {message}")

    def run(self, job: Job) -> None:
        title = f"{job.name}: {job.data.label()}"
        compose = composing(job, dict(self.systems or {}), default_name())
        serve(self.server, compose, title, job.folder / "serving")


def default_name() -> str:
    """The name of the only system: its choice, such as `bm25`."""
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices["retriever"]).replace("/", "_")


def composing(job: Job, systems: Mapping[str, str], name: str) -> Compose:
    """A function that composes the served systems anew, as they are configured and lie on disk.

    Args:
        job: of the server.
        systems: overrides by name; empty for the job's own system alone.
        name: of the job's own system.

    Returns:
        From further overrides by system to systems by name.
    """
    typed = typed_overrides()
    named = {one: overrides_of(value) for one, value in systems.items()} or {name: []}

    def compose(further: Mapping[str, list[str]]) -> dict[str, Composed]:
        strange = [one for one in further if one not in named]
        if strange:
            known = ", ".join(named)
            raise InputError(f"no system {strange[0]!r} is served; there are {known}")
        for overrides in further.values():
            check_further(overrides)
        look_again()
        runtime: Runtime | None = None
        composed = {}
        for one, overrides in named.items():
            made = _job([*typed, *overrides, *further.get(one, [])], job.folder)
            runtime = runtime or made.runtime
            composed[one] = composed_of(made, runtime)
        return composed

    return compose


REMADE = ("retriever", "query", "precision", "seed", "encoder", "index", "fusion", "reranker")


def check_further(overrides: Sequence[str]) -> None:
    """Raise InputError for overrides of a reload that reach beyond the system.

    An administrator's key swaps systems; it must neither name Python code nor places on disk.

    Args:
        overrides: as they were sent.
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        root = key.partition("@")[0].partition(".")[0].partition("/")[0]
        if root not in REMADE or "_target_" in override or "_partial_" in override:
            known = ", ".join(REMADE)
            raise InputError(f"a reload may set {known}, not {key}")


def overrides_of(value: str) -> list[str]:
    """The overrides that a value of `task.systems` stands for.

    Args:
        value: a choice of `retriever`, or overrides.

    Returns:
        Overrides.
    """
    return value.split() if "=" in value else [f"retriever={value}"]


def composed_of(job: Job, runtime: Runtime) -> Composed:
    """A job's system, with the request that its table made.

    Args:
        job: of the system.
        runtime: that all systems of a generation share.

    Returns:
        The system before it is opened.
    """
    data = job.data.bound(runtime)
    dataset, split = runtime.get(data), job.evaluation.split
    split = split if dataset.has(split) else last_split(dataset)
    request = RetrievalRequest(job.query.fitted(data), split, job.evaluation.depth)
    return Composed(job.retriever, data, request, runtime)


def typed_overrides() -> list[str]:
    """What was typed for the job, without what chooses and sets the task.

    Returns:
        Overrides.
    """
    from hydra.core.hydra_config import HydraConfig

    overrides = HydraConfig.get().overrides.task
    return [o for o in overrides if o.lstrip("+~").split("=")[0].split(".")[0] != "task"]


def _job(overrides: list[str], folder: Path) -> Job:
    from hydra import compose
    from hydra.errors import HydraException

    try:
        config = compose("config", overrides=overrides)
    except HydraException as error:
        raise InputError(" ".join(str(error).split())) from None
    return Job.compose(config, overrides, 0, folder)
