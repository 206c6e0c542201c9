"""A job: one composed configuration, instantiated, with the folder that records it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf

from neurosearch.core.artifact import Artifact
from neurosearch.core.command import masked
from neurosearch.core.digests import digest
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.recipe import FieldError, Recipe
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import write_whole
from neurosearch.core.types import Dataset
from neurosearch.data.base import Data
from neurosearch.data.esci import ALL
from neurosearch.data.language import LOCALES, SEVERAL, stemmer_of
from neurosearch.evaluation.base import Evaluation
from neurosearch.evaluation.opened import opened
from neurosearch.query.analyzer import check_stemmers
from neurosearch.task.measure import data_facts

RECORD = "record.json"
SWEEP = "NEUROSEARCH_SWEEP"  # set for all the jobs of a multirun, in whatever process they run


def at_most(value: int, limit: int | None) -> int:
    """A number of a config, or a smaller limit (debug=tiny sets some).

    Args:
        value: of the config.
        limit: None for no limit.

    Returns:
        The smaller one.
    """
    return value if limit is None else min(value, limit)


def data_stemmer(*, _root_: Any) -> str:
    """`${stemmer:}` of a config: the stemmer of its data's language.

    Args:
        _root_: the whole config, which Hydra hands in.

    Returns:
        A Snowball stemmer's name, or `none`.
    """
    data = _root_.get("data") or {}
    locale = str(data.get("locale"))
    own = SEVERAL if locale == ALL else LOCALES.get(locale, "english")
    return stemmer_of(data.get("language") or own)


def data_digest(*, _root_: Any) -> str:
    """`${data_digest:}`: six letters that change with any field of the data's config.

    Args:
        _root_: the whole config, which Hydra hands in.

    Returns:
        Hexadecimal digits.
    """
    return digest(OmegaConf.to_yaml(_root_.get("data") or {}, resolve=True))[:6]


OmegaConf.register_new_resolver("data_digest", data_digest, replace=True)
OmegaConf.register_new_resolver("at_most", at_most, replace=True)
OmegaConf.register_new_resolver("stemmer", data_stemmer, replace=True)


@dataclass(frozen=True)
class Job:
    """What a task is given.

    Attributes:
        name: the experiment's name.
        overrides: as typed or swept, without those that choose no system (experiment, task…).
        number: place in the sweep, from 0.
        folder: of the job's record and results.
    """

    config: DictConfig
    name: str
    overrides: tuple[str, ...]
    number: int
    folder: Path
    data: Data
    query: QueryProcessor
    retriever: Retriever
    evaluation: Evaluation
    runtime: Runtime

    @classmethod
    def compose(
        cls, config: DictConfig, overrides: Sequence[str], number: int, folder: Path
    ) -> Job:
        """Instantiate the roles.

        Args:
            config: the composed configuration.
            overrides: as typed.
            number: of the job in its sweep, from 0.
            folder: of the job's record.

        Returns:
            The job.

        Raises:
            InputError: for a value that a recipe refuses.
        """
        parts = {role: build(config, role) for role in ("data", "query", "evaluation")}
        retriever = build(config, "retriever")
        check_stemmers(parts["data"], retriever, parts["query"])
        return cls(
            config=config,
            name=config.name,
            overrides=tuple(overrides),
            number=number,
            folder=folder,
            retriever=retriever,
            runtime=build(config, "runtime"),
            **parts,
        )

    @cached_property
    def dataset(self) -> Artifact[Dataset]:
        """The data set, built where it is not there yet; its parts are fingerprinted apart."""
        bound = self.data.bound(self.runtime)
        self.evaluation.check(opened(self.runtime.get(bound)))
        return bound

    @cached_property
    def processing(self) -> QueryProcessor:
        """The query processing, with what it learns from the data set."""
        return self.query.fitted(self.dataset)

    def identity(self) -> dict[str, Any]:
        """What the record of any task says of the job itself.

        Returns:
            JSON-able fields of a record.
        """
        return {
            "experiment": self.name,
            "overrides": list(self.overrides),
            "number": self.number,
            "seed": self.config.seed,
            **data_facts(self.data, self.runtime),
        }

    def choices(self) -> list[str]:
        """The top-level choices that name a system, such as `retriever=bm25`.

        Returns:
            `group=choice` terms.
        """
        from hydra.core.hydra_config import HydraConfig

        chosen = HydraConfig.get().runtime.choices
        roles = ("data", "query", "retriever", "tokenizer", "evaluation")
        return [f"{role}={chosen[role]}" for role in roles if chosen.get(role)]

    def record(self, **fields: Any) -> None:
        """Write the job's record.json, whole or not at all.

        Args:
            fields: JSON-able.
        """
        write_record(self.folder, fields)


@dataclass(frozen=True)
class Task(Recipe):
    """Base of tasks. `tabulated`: a job of it is a row of a table."""

    tabulated: ClassVar[bool] = False

    def run(self, job: Job) -> float | None:
        """Run the task. Returns the value that a search optimises, where the task has one.

        Args:
            job: the composed configuration and its folder.

        Returns:
            The value, such as dev nDCG@10, or None.

        Raises:
            InputError: for errors that the user can fix.
        """
        raise TypeError(f"{type(self).__name__} does not say what it does")

    def check(self, job: Job) -> None:
        """Raise InputError for what `run` could not do; builds the data at most.

        Args:
            job: the composed configuration and its folder.
        """
        for target in self.targets(job):
            job.runtime.store.check(target)

    def targets(self, job: Job) -> list[Artifact[Any]]:
        """The artifacts that a row of this task is made of; none for tasks without a table.

        Args:
            job: the composed configuration and its folder.

        Returns:
            Artifacts, built by `run` where they are not there.
        """
        return []


def build(config: DictConfig, role: str) -> Any:
    """Instantiate one role. A recipe's InputError comes out as such, not wrapped.

    Args:
        config: the composed configuration.
        role: a top-level key.

    Returns:
        The recipe.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf.errors import OmegaConfBaseException

    if config.get(role) is None or "_target_" not in config[role]:
        raise InputError(f"config key {role!r} has no choice: name one, such as {role}=...")
    try:
        # Without _convert_="all", recipes that sit in a dict are turned back into configs.
        return instantiate(config[role], _convert_="all")
    except (InstantiationException, OmegaConfBaseException) as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, FieldError):
                raise InputError(f"{_key(error, role)}.{cause.field} {cause.reason}") from None
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        missing = re.match(r"Missing mandatory value: (\S+)", lines[0])
        if missing:
            raise InputError(f"{missing.group(1)} has no value: add {missing.group(1)}=…") from None
        # Hydra's first line says where, what follows says what is wrong.
        raise InputError(f"config key {role!r}: {' '.join(lines[:2])}") from None


def _key(error: Exception, role: str) -> str:
    """The config key of the part that Hydra could not make, such as `retriever.encoder`."""
    keys = re.findall(r"^full_key: (\S+)$", str(error), flags=re.M)
    return keys[-1] if keys else role


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write `record` as record.json of a job's folder, and for its sweep where it has one.

    Two sweeps of one experiment share their jobs' folders, so each also keeps its own records.

    Args:
        folder: of the job.
        record: JSON-able.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = masked(json.dumps({**record, "folder": str(folder)}, indent=1))
    write_whole(folder / RECORD, text.encode())
    sweep = os.environ.get(SWEEP)
    if sweep:
        records = sweep_folder(folder.parent, sweep)
        records.mkdir(parents=True, exist_ok=True)
        write_whole(records / f"{record['number']:04d}.json", text.encode())


def sweep_folder(jobs: Path, sweep: str) -> Path:
    """Where the records of one sweep lie until its table is made.

    Args:
        jobs: the folder of all jobs.
        sweep: its name.

    Returns:
        A folder.
    """
    return jobs / ".sweeps" / sweep


def resolved(config: DictConfig) -> str:
    """The config as YAML with every interpolation resolved.

    Args:
        config: the composed configuration.

    Returns:
        YAML.
    """
    return masked(OmegaConf.to_yaml(config, resolve=True))
