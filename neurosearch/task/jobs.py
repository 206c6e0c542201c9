"""The jobs of a sweep before they run: their overrides, and what can be known to be wrong."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from neurosearch.core.bounds import check_seed
from neurosearch.core.errors import InputError
from neurosearch.task.base import Job, Task, build
from neurosearch.task.hints import plain

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# Which groups at the root each kind of task reads; any task reads the others.
READS = {"evaluate": {"retriever", "query", "evaluation"}, "tokenize": {"tokenizer"}}
# Root settings that parts of a system read by interpolation.
ROOT_SETTINGS = ("precision", "limits", "overfit")
# Root keys of a composed config.
ROOTS = {
    *(*ROOT_SETTINGS, "name", "seed", "paths", "hydra", "experiment", "search", "debug"),
    *("data", "query", "retriever", "tokenizer", "evaluation", "report", "tracking"),
    *("runtime", "task"),
}
# What becomes of models while a catalogue grows: no news to a system that has none of the kind.
POLICY = "data.models="
READ_BY = {
    "evaluate": "evaluate",
    "plan": "evaluate",
    "tokenize": "tokenize",
    "explore": "tokenize",
}


def combinations(hydra: DictConfig) -> list[list[str]]:
    """The overrides of each job of a grid, swept ones of the experiment included."""
    choices = [words_of(override) for override in overrides_of(hydra)]
    return [list(combination) for combination in itertools.product(*choices)]


def words_of(override: Override) -> list[str]:
    """An override as it would be typed for each of the values that it sweeps, or as it is.

    Args:
        override: parsed; a grid's.

    Returns:
        One word a value.
    """
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def overrides_of(hydra: DictConfig) -> list[Override]:
    """The command line's, and those that the experiment or the search sweeps besides.

    Args:
        hydra: of the composed configuration.

    Returns:
        Parsed, in the order in which the first swept one changes slowest.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    typed = list(hydra.overrides.task)
    named = {override.split("=")[0].lstrip("+") for override in typed}
    params = hydra.sweeper.get("params") or {}
    swept = [f"{key}={value}" for key, value in params.items() if key not in named]
    return list(OverridesParser.create().parse_overrides([*typed, *swept]))


def composed_jobs(hydra: DictConfig, folder: Path) -> Iterator[Job]:
    """Each job of a grid. Raises InputError for one that can't be composed."""
    for number, overrides in enumerate(combinations(hydra)):
        yield _composed(overrides, number, folder, hydra.job.config_name)


def _composed(overrides: list[str], number: int, folder: Path, root: str | None = None) -> Job:
    """A job of a command, whose root config `--config-name` may have changed."""
    from hydra import compose
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = compose(root or "config", overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        message = plain(str(error), overrides)
        if not message:
            raise
        raise InputError(message) from None
    return Job.compose(config, overrides, number, folder)


def job_of(overrides: Sequence[str]) -> Job:
    """A job composed for a script, outside Hydra's command line; its folder is a temporary one.

    The resolvers of the config must be registered (`import neurosearch.app`).

    Args:
        overrides: as they would be typed.

    Returns:
        The job.
    """
    from hydra import initialize_config_module

    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        return _composed(list(overrides), 0, Path(tempfile.mkdtemp()))


def _again(overrides: list[str], seen: set[tuple[str, ...]]) -> bool:
    key = tuple(override for override in overrides if not override.startswith("seed="))
    if key in seen:
        return True
    seen.add(key)
    return False


def _check_seeds(overrides: Sequence[str]) -> None:
    """Raise InputError for what is no seed; a reference to another key is looked up later."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "seed" and not value.startswith("${"):
            check_seed(key, OmegaConf.from_dotlist([override]).seed)


def check_jobs(hydra: DictConfig, folder: Path) -> None:
    """Raise InputError naming all that can't work of a grid's jobs; builds the data at most."""
    faults: dict[str, None] = {}
    seen: set[tuple[str, ...]] = set()
    built: dict[tuple[str, ...], set[str]] = {}
    whole: set[tuple[str, ...]] = set()
    for number, overrides in enumerate(combinations(hydra)):
        if tuple(overrides) in whole:
            faults[f"the sweep has the job of {' '.join(overrides)} twice"] = None
        whole.add(tuple(overrides))
        try:
            _check_seeds(overrides)
            if _again(overrides, seen):
                continue
            job = _composed(overrides, number, folder, hydra.job.config_name)
            check_read(job.config, overrides)
            task = build(job.config, "task")
            task.check(job)
            _check_new(task, job, built)
        except InputError as error:
            faults[str(error)] = None
    if faults:
        raise InputError("; ".join(faults))


def check_search(hydra: DictConfig, folder: Path) -> None:
    """Raise InputError naming all values of a search that can't work; builds the data at most.

    Each value that a search may try stands alone here, beside the values that the config has for
    all other keys; of an interval or a range, its two ends. Optuna would keep a trial that failed.

    Args:
        hydra: of the composed configuration.
        folder: of the sweep.
    """
    overrides = overrides_of(hydra)
    start = [o.input_line for o in overrides if not o.is_sweep_override()]

    def check(words: list[str]) -> None:
        job = _composed(words, 0, folder, hydra.job.config_name)
        build(job.config, "task").check(job)

    check(start)
    faults: dict[str, str] = {}  # what is wrong, and the first value that shows it
    for swept in (o for o in overrides if o.is_sweep_override()):
        for value in _extremes(swept):
            tried = f"{swept.get_key_element()}={value}"
            try:
                _check_seeds([tried])
                check([*start, tried])
            except InputError as error:
                faults.setdefault(str(error), tried)
    if faults:
        told = (f if f.startswith(tried) else f"{tried}: {f}" for f, tried in faults.items())
        raise InputError("; ".join(f"the search may try {fault}" for fault in told))


def _extremes(swept: Override) -> list[str]:
    """A search's choices for a key; the ends where it has a range of numbers."""
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    value = swept.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    values = [str(choice) for choice in swept.sweep_string_iterator()]
    return [values[0], values[-1]] if isinstance(value, RangeSweep) and values else values


def _check_new(task: Task, job: Job, built: dict[tuple[str, ...], set[str]]) -> None:
    """Raise InputError where an earlier job of the sweep builds exactly what this one would.

    Both would be rows of one system. Seeds are left out: a system without chance has none. So are
    policies (`POLICY`), since one sweep has them for systems with and without decoders.
    """
    addresses = tuple(target.address for target in task.targets(job))
    overrides = set(job.overrides)
    if addresses and addresses in built:
        differs = sorted(overrides - built[addresses])
        if differs and all(override.startswith(POLICY) for override in differs):
            return
        changed = " ".join(differs) or "a repeated value"
        earlier = " ".join(sorted(built[addresses] - overrides)) or "the same overrides"
        message = f"{changed} changes nothing: the job of {earlier} is the same system"
        raise InputError(f"{message} on the same data; leave one out")
    built[addresses] = overrides


def check_read(config: DictConfig, overrides: Sequence[str]) -> None:
    """Raise InputError for a typed root setting that nothing in the composed system reads."""
    read = OmegaConf.to_yaml(config, resolve=False)
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        root = key.partition(".")[0]
        references = (f"${{{key}}}", f"${{{key}.")
        if root in ROOT_SETTINGS and not any(text in read for text in references):
            raise InputError(f"{key}={value} changes nothing: no part of this system reads {key}")


def check_overrides(hydra: DictConfig) -> None:
    """Raise InputError for an override that the task does not read, with where it would go."""
    choices = hydra.runtime.choices
    task = READ_BY.get(str(choices.get("task")))
    if choices.get("task") == "plan" and choices.get("tokenizer"):
        task = "tokenize"  # a plan is of what is composed
    if task is None:
        return
    for override in hydra.overrides.task:
        added = re.match(r"\++(\w+)", override)
        if added and added.group(1) not in ROOTS:
            raise InputError(f"{override} changes nothing: no part reads {added.group(1)}")
    typed = [str(o).partition("=") for o in hydra.overrides.task]
    given: dict[str, str] = {}
    for key, _, value in typed:
        if given.setdefault(key, value) != value:
            raise InputError(f"{key} is given twice, as {given[key]} and as {value}")
    empty = next((key for key, _, value in typed if value.strip() == "{}"), None)
    if empty is not None:
        raise InputError(f"{empty}={{}} changes nothing: what is there stays; ~{empty} removes it")
    others = set().union(*(groups for kind, groups in READS.items() if kind != task))
    for override in hydra.overrides.task:
        if override.startswith("~"):
            continue
        key = override.lstrip("+").split("=")[0]
        group, _, place = key.partition("@")
        root = (place or group).split(".")[0].split("/")[0]
        if root not in others or (root == "tokenizer" and task == "tokenize"):
            continue
        held = [str(x).partition("@")[2] for x in choices if str(x).startswith(f"{root}@")]
        message = f"{override}: task={choices.task} does not read {root}"
        if held:
            raise InputError(f"{message}; say {root}@{held[0]}{override[len(key) :]}")
        if root == "tokenizer":
            holders = "retriever=multiphase and retriever=generative hold one"
            raise InputError(f"{message}, and retriever={choices.retriever} holds none ({holders})")
        raise InputError(f"{message}; leave it out")
