"""What a published table rests on: the code that its configs or its script name, and the files.

For `changed.py`. A sweep's jobs are composed as its command says, less the seeds. A table that was
joined of several runs is followed as its experiment, with the choices that its rows are named by.
Of a script: what it imports, and the systems whose overrides stand in it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.task.jobs import words_of

ROOT = Path(__file__).parents[1]
# Metrics are tested, and their intervals made, by this one.
STATISTICS = "neurosearch.report.aggregation:rows_of"
# Config groups that move no number, and keys of an experiment's file that don't.
APART = ("report", "runtime", "tracking")
# Keys of a command that move no number of a row.
UNREAD = ("evaluation.baseline", "name", "report.columns", "report.publish", "runtime.progress")
# What composes jobs, and the tasks that only hand on what the parts of a system do.
COMPOSING = ("base", "evaluate", "jobs", "tokenize")


@dataclass
class Behind:
    """What is behind a table.

    Attributes:
        roots: definitions that its configs or its script name, as `module:name`.
        files: config files and scripts, as paths in the repository.
    """

    roots: set[str] = field(default_factory=lambda: {STATISTICS})
    files: set[str] = field(default_factory=set)

    def follow(self, module: str, name: str, alias: str | None, modules: dict[str, str]) -> None:
        """An import of the package; a module's is noted in `modules`, under its name here."""
        if not module.startswith("neurosearch"):
            return
        path = ROOT.joinpath(*module.split("."), name)
        if path.is_dir() or path.with_suffix(".py").exists():
            modules[alias or name] = f"{module}.{name}"
        elif module.removeprefix("neurosearch.task.") not in COMPOSING:
            self.roots.add(f"{module}:{name}")

    def add(self, *choices: Sequence[str]) -> bool:
        """What the first of several lists of overrides that can be composed names; False for none.

        An experiment may have a data set of its own (changing), and words of another kind stand in
        scripts.
        """
        for overrides in choices:
            with suppress(HydraException):
                roots, files = _composed(tuple(overrides))
                self.roots |= roots
                self.files |= files
                return True
        return False


@cache
def _composed(overrides: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """The `module:name` that a composed config has as targets, and the files that it is made of."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    words = list(overrides)
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=words)
        loader = GlobalHydra.instance().hydra.config_loader
        read = loader.compute_defaults_list("config", words, RunMode.RUN)
    paths = {str(part.config_path) for part in read.defaults}
    files = {f"conf/{path}.yaml" for path in paths if path.split("/")[0] not in APART}
    return frozenset(_targets(OmegaConf.to_container(config, resolve=False))), frozenset(files)


def _targets(value: Any) -> Iterator[str]:
    """Every `_target_` of a config, as `module:name`."""
    if isinstance(value, dict):
        target = value.get("_target_")
        if isinstance(target, str):
            module, _, name = target.rpartition(".")
            if module.removeprefix("neurosearch.task.") not in COMPOSING:
                yield f"{module}:{name}"
        for key, part in value.items():
            if key not in APART:
                yield from _targets(part)
    elif isinstance(value, list):
        for part in value:
            yield from _targets(part)


def of_command(words: Sequence[str], name: str, data: str, rows: Sequence[str] = ()) -> Behind:
    """What the rows of a table of jobs rest on.

    Args:
        words: of its command, after `neurosearch`.
        name: the experiment, for a command that only joins (`task=table`).
        data: the data set, likewise; empty for the experiment's own.
        rows: names of rows; overrides in them are composed too.

    Returns:
        Roots and files.
    """
    behind = Behind()
    typed = [word for word in words if "=" in word and word.split("=")[0] not in UNREAD]
    if "task=table" in words:
        typed = [f"experiment={name}", *([f"data={data}"] if data else [])]
    chosen = next((w.partition("=")[2] for w in typed if w.startswith("experiment=")), None)
    swept: dict[str, str] = {}
    if chosen is not None:
        path = ROOT / "conf" / "experiment" / f"{chosen}.yaml"
        params = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
        swept = {key: str(value) for key, value in params.items()}
    swept |= dict(word.split("=", 1) for word in typed)
    for job in jobs_of(swept):
        if not behind.add(job, [word for word in job if not word.startswith("data=")]):
            raise SystemExit(f"can't be composed today: {' '.join(job)} (a table of {name})")
    if chosen is not None:
        for named in sorted({choice for row in rows for choice in _choices(row)}):
            behind.add([f"experiment={chosen}", named])
    return behind


def _choices(row: str) -> list[str]:
    """`retriever=hybrid/four` of a row's name, and other choices that name a system."""
    return re.findall(r"(?<![\w.])(?:retriever|encoder@[\w.]+|tokenizer)=[\w/]+", row)


def jobs_of(params: dict[str, str]) -> list[list[str]]:
    """The overrides of jobs that together have each value of a sweep at least once."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    lines = [f"{key}={value}" for key, value in params.items()]
    choices = []
    for override in OverridesParser.create().parse_overrides(lines):
        words = words_of(override)
        choices.append(words[:1] if override.get_key_element() == "seed" else words)
    # The values of the longest key, beside those of the others in turn.
    longest = max((len(words) for words in choices), default=1)
    return [[words[number % len(words)] for words in choices] for number in range(longest)]


@cache
def of_script(name: str) -> Behind:
    """What a script imports of the package and of its folder, and the systems that it composes."""
    behind = Behind(files={name})
    tree = ast.parse((ROOT / name).read_bytes())
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                behind.follow(node.module or "", alias.name, alias.asname, modules)
            beside = (ROOT / name).with_name(f"{node.module}.py")
            if beside.exists():
                other = of_script(beside.relative_to(ROOT).as_posix())
                behind.roots |= other.roots
                behind.files |= other.files
        elif isinstance(node, ast.List):
            parts = [part.value for part in node.elts if isinstance(part, ast.Constant)]
            words = [word for word in parts if isinstance(word, str) and "=" in word]
            if words:
                behind.add(words)
    for node in ast.walk(tree):
        named = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(named, ast.Name) and named.id in modules:
            behind.roots.add(f"{modules[named.id]}:{node.attr}")
    return behind
