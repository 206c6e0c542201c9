"""What a published table rests on: the code that its configs or its script name, and the files.

For `changed.py`. An experiment's jobs are composed as its sweep composes them, less the seeds; of a
script, what it imports and each list of overrides in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.errors import InputError

ROOT = Path(__file__).parents[1]
# Metrics are tested, and their intervals made, by this one.
STATISTICS = "neurosearch.report.aggregation:rows_of"
# Config groups that move no number, and keys of an experiment's file that don't.
APART = ("hydra", "report", "runtime", "tracking")
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

    def add(self, overrides: Sequence[str]) -> None:
        """What a composed config names. Raises Hydra's error for what can't be composed."""
        from hydra import compose, initialize_config_module
        from hydra.core.global_hydra import GlobalHydra
        from hydra.types import RunMode
        from omegaconf import OmegaConf

        with initialize_config_module("neurosearch.conf", version_base="1.3"):
            config = compose("config", overrides=list(overrides))
            read = GlobalHydra.instance().hydra.config_loader.compute_defaults_list(
                "config", list(overrides), RunMode.RUN
            )
        self.roots |= set(_targets(OmegaConf.to_container(config, resolve=False)))
        paths = {str(part.config_path) for part in read.defaults}
        self.files |= {f"conf/{p}.yaml" for p in paths if p.split("/")[0] not in APART}


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


@cache
def of_experiment(name: str, data: str) -> Behind:
    """What the jobs of an experiment name on a data set, where it takes another one."""
    behind = Behind()
    path = ROOT / "conf" / "experiment" / f"{name}.yaml"
    params = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]
    for swept in jobs_of({key: str(value) for key, value in params.items()}):
        words = [f"experiment={name}", *swept]
        try:
            behind.add([*words, f"data={data}"] if data else words)
        except HydraException:
            behind.add(words)  # an experiment with a data set of its own, such as changing
    return behind


def jobs_of(params: dict[str, str]) -> list[list[str]]:
    """The overrides of jobs that together have each value of a sweep at least once."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values: dict[str, list[str]] = {}
    parser = OverridesParser.create()
    for swept in parser.parse_overrides([f"{key}={value}" for key, value in params.items()]):
        if swept.is_sweep_override():
            found = [str(value) for value in swept.sweep_string_iterator()]
        else:
            found = [str(swept.get_value_element_as_str())]
        values[swept.get_key_element()] = found[:1] if swept.get_key_element() == "seed" else found
    # The values of the longest key, beside those of the others in turn.
    longest = max((len(found) for found in values.values()), default=1)
    return [
        [f"{key}={found[number % len(found)]}" for key, found in values.items()]
        for number in range(longest)
    ]


@cache
def of_script(name: str) -> Behind:
    """What a script imports of the package, and the systems that it composes."""
    behind = Behind(files={name})
    for node in ast.walk(ast.parse((ROOT / name).read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neurosearch"):
            if str(node.module).removeprefix("neurosearch.task.") not in COMPOSING:
                behind.roots |= {f"{node.module}:{alias.name}" for alias in node.names}
        elif isinstance(node, ast.List) and node.elts:
            words = [part.value for part in node.elts if isinstance(part, ast.Constant)]
            texts = [word for word in words if isinstance(word, str) and "=" in word]
            if len(texts) == len(node.elts):
                try:
                    behind.add(texts)
                except (HydraException, InputError):
                    continue  # a list of other words
    return behind
