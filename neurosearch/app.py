"""The Hydra entry: compose a configuration, instantiate it, hand it to its task, record it."""

from __future__ import annotations

import cProfile
import errno
import hashlib
import logging
import os
import pstats
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from neurosearch.core.command import masked
from neurosearch.core.errors import AlarmError, InputError
from neurosearch.core.stopping import check_stopped
from neurosearch.sweep.callback import count_alarms, count_failures
from neurosearch.sweep.pruning import Pruned
from neurosearch.sweep.ray_launcher import RayLauncher
from neurosearch.task.base import Job, Task, build

log = logging.getLogger("neurosearch")

# Overrides that say how or where, not what: not part of a system's or a job folder's name.
NEUTRAL = ("experiment", "task", "tracking", "runtime", "report", "hydra")
LONGEST_NAME = 150
# Errors of the disk, shown without a traceback.
FULL_OR_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def job_folder_name(override_dirname: str) -> str:
    """A job's folder: its overrides, cut and hashed where a file name could not hold them."""
    overrides = re.split(r",(?=[+~]*[\w./@]+=)", override_dirname)  # commas of lists stay
    parts = [part for part in overrides if not _is_neutral(part)]
    if len(",".join(parts).encode()) > LONGEST_NAME:  # what is cut off should say least
        parts.sort(key=lambda part: part.startswith("data"))
    name = masked(",".join(parts)).replace("/", "_") or "default"
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()
    return name.encode()[: LONGEST_NAME - 11].decode(errors="ignore") + "-" + digest


def _is_neutral(override: str) -> bool:
    key = override.lstrip("+~").split("=")[0].split("@")[0]
    return key == "paths.outputs" or key.split(".")[0].split("/")[0] in NEUTRAL


# Hydra takes plugins from its own namespace only, by this name.
Plugins.instance().class_name_to_class["hydra_plugins.neurosearch.RayLauncher"] = RayLauncher
OmegaConf.register_new_resolver("job_folder_name", job_folder_name, replace=True)
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


@hydra.main(  # type: ignore[untyped-decorator]
    version_base="1.3", config_path="pkg://neurosearch.conf", config_name="config"
)
def main(config: DictConfig) -> float | None:
    """Run one job; return the value that a search optimises. Errors are recorded; sweeps go on."""
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    number = settings.job.num if settings.mode == RunMode.MULTIRUN else 0
    overrides = [o for o in settings.overrides.task if not _is_neutral(o)]
    task: Task | None = None
    try:
        task = build(config, "task")
        swept = settings.sweeper.get("params")
        if task.tabulated and swept and settings.mode != RunMode.MULTIRUN:
            log.warning("running one job only; add -m to sweep %s", ", ".join(swept))
        job = Job.compose(config, overrides, number, folder)
        if not job.runtime.profile:
            return task.run(job)
        with profiled(folder):
            return task.run(job)
    except Pruned as error:
        _report(config, task, folder, number, overrides, str(error), None, "pruned")
        return error.value
    except AlarmError as error:
        log.error("%s", error)
        count_alarms(1)
    except InputError as error:
        _report(config, task, folder, number, overrides, str(error), None)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        trace: str | None = traceback.format_exc()
        if isinstance(error, OSError) and error.errno in FULL_OR_FORBIDDEN:
            message, trace = f"{error.filename or folder}: {error.strerror}", None
        _report(config, task, folder, number, overrides, message, trace)
    return None


@contextmanager
def profiled(folder: Path) -> Iterator[None]:
    """Write profile.txt (the 60 costliest functions) and profile.pstats into `folder`."""
    with cProfile.Profile() as profile:
        yield
    folder.mkdir(parents=True, exist_ok=True)
    profile.dump_stats(folder / "profile.pstats")
    with (folder / "profile.txt").open("w", encoding="utf-8") as handle:
        pstats.Stats(profile, stream=handle).sort_stats("cumulative").print_stats(60)
    log.info("profile: %s", folder / "profile.txt")


def _report(
    config: DictConfig,
    task: Task | None,
    folder: Path,
    number: int,
    overrides: list[str],
    message: str,
    trace: str | None,
    status: str = "failed",
) -> None:
    from neurosearch.task.base import write_record

    check_stopped()  # libraries make other errors of an interruption
    log.error("%s: %s", "error" if status == "failed" else status, message)
    if trace:
        log.error("%s", trace)
    swept = HydraConfig.get().mode == RunMode.MULTIRUN
    recorded = swept if task is None else task.tabulated
    if status == "failed" and not (swept and recorded):
        count_failures(1)  # else the callback counts, in whichever process the jobs ran
    if not recorded:
        return  # the existing record belongs to another task
    record = {
        "experiment": config.name,
        "overrides": overrides,
        "number": number,
        "status": status,
        "error": message,
        "traceback": trace,
    }
    try:
        write_record(folder, record)
    except OSError as error:  # such as a disk that is full
        log.error("error: %s: the job has no record (%s)", folder, error.strerror)
