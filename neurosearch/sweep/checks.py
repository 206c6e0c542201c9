"""What can be known to be wrong with a multirun before any of its jobs runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from neurosearch.core.bounds import check_name, check_seed, one_of, within
from neurosearch.core.command import masked
from neurosearch.core.digests import digest
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import PRECISIONS
from neurosearch.evaluation import seen
from neurosearch.task.base import build
from neurosearch.task.jobs import check_jobs, check_overrides, check_search, overrides_of


def preflight(config: DictConfig) -> None:
    """Raise InputError for names, columns, folders, launchers, searches or jobs that can't be."""
    check_root(config)
    check_overrides(config.hydra)
    report = build(config, "report")
    report.check_writable(Path(config.paths.outputs) / "tables" / config.name)
    _check_columns(config, getattr(report, "columns", ()))
    launcher = config.hydra.launcher
    if launcher.get("n_jobs") == 0:
        raise InputError("hydra.launcher.n_jobs is 0 (-1: one job a core)")
    if launcher.get("_target_", "").endswith("SlurmLauncher") and not shutil.which("srun"):
        raise InputError("hydra/launcher=slurm: there is no srun here")
    if config.hydra.sweeper.get("n_trials") is not None:
        _check_search(config)
    else:
        check_jobs(config.hydra, Path(config.hydra.sweep.dir).absolute())
        # Jobs have been composed, one of all seeds: Hydra need not compose all to see if it can.
        Sweeper.validate_batch_is_legal = lambda sweeper, batch: None


def _check_columns(config: DictConfig, columns: Sequence[str]) -> None:
    """Raise InputError for a column that no row would have."""
    swept = {o.key_or_group for o in overrides_of(config.hydra) if o.is_sweep_override()}
    lacking = [name for name in columns if name in seen.METRICS]
    given = config.evaluation.get("seen") or swept & {"evaluation", "evaluation.seen"}
    if lacking and not given:
        raise InputError(f"report.columns has {lacking}, which need evaluation.seen=true")


def check_root(config: DictConfig) -> None:
    """Raise InputError for a name that is no plain folder's, or a seed that is no number."""
    check_seed("seed", config.seed)
    one_of("precision", str(config.precision), PRECISIONS)
    check_name("" if config.name is None else str(config.name))


def study_of(config: DictConfig) -> str:
    """The name of a search's kept study and of its storage, as a folder's; '' for a grid."""
    name, storage = (config.hydra.sweeper.get(key) for key in ("study_name", "storage"))
    if not name or not storage:
        return ""
    return re.sub(r"[^\w.-]", "_", name) + "-" + digest(str(storage))[:6]


def is_new(sweeper: DictConfig) -> bool:
    """Whether the study has yet to be made."""
    import optuna

    try:
        optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    except KeyError:
        return True
    return False


def _check_search(config: DictConfig) -> None:
    sweeper = config.hydra.sweeper
    within("hydra.sweeper.n_trials", sweeper.n_trials, least=1)
    try:
        if study_of(config):
            is_new(sweeper)
    except Exception as error:  # whatever the data base's driver raises
        message = str(error).splitlines()[0]
        raise InputError(masked(f"hydra.sweeper.storage={sweeper.storage}: {message}")) from None
    # Optuna would keep a trial that never ran.
    for key in sweeper.params or {}:
        holder, _, name = key.rpartition(".")
        if re.fullmatch(r"[\w.]+", key) and holder and not _has(config, holder, name):
            raise InputError(f"hydra.sweeper.params: this config has no {key}")
    check_search(config.hydra, Path(config.hydra.sweep.dir).absolute())


def _has(config: DictConfig, holder: str, name: str) -> bool:
    node: Any = OmegaConf.select(config, holder)
    return isinstance(node, DictConfig) and name in node
