"""The end of a multirun: job records become tables, and failed jobs an exit status."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from neurosearch.core.command import command_line, masked
from neurosearch.core.errors import InputError
from neurosearch.core.machine import is_running, log
from neurosearch.core.store import write_whole
from neurosearch.sweep.checks import check_root, is_new, preflight, study_of
from neurosearch.task.base import SWEEP, sweep_folder
from neurosearch.task.jobs import check_overrides, check_read

OWNER = "owner"  # host and process of a multirun, beside its jobs' records
failed_jobs = 0  # of this process's run or multirun; `__main__` exits with it


def count_failures(number: int) -> None:
    """Remember failures for the exit status: Hydra itself would forget them."""
    global failed_jobs
    failed_jobs += number


alarms = 0  # of this process; `__main__` exits with 2 for them


def count_alarms(number: int) -> None:
    """Remember alarms for the exit status: a scheduler tells them from errors."""
    global alarms
    alarms += number


running: Path | None = None  # the records' folder of this process's multirun


def begin(folder: Path) -> None:
    """Make the folder of a multirun's records; those that killed ones left behind go."""
    global running
    for left in folder.parent.glob("*"):
        if re.fullmatch(r"[0-9a-f]{8}", left.name) and not _is_alive(left):
            shutil.rmtree(left, ignore_errors=True)
    running = folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OWNER).write_text(f"{socket.gethostname()} {os.getpid()}", encoding="utf-8")


def discard() -> None:
    """Remove what `begin` has made."""
    if running is not None:
        shutil.rmtree(running, ignore_errors=True)
        with suppress(OSError):  # others run
            running.parent.rmdir()


def _is_alive(folder: Path) -> bool:
    """Whether the process that owns a multirun's folder may still run."""
    try:
        host, number = (folder / OWNER).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return False
    return host != socket.gethostname() or is_running(number)


class CollectTables(Callback):  # type: ignore[misc]
    """Hydra callback. Jobs of one multirun share an identifier, whatever process ran them.

    Runs of one search share their study's folder, so that its table has the trials of all of them.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check_root(config)
            check_overrides(config.hydra)
            check_read(config, config.hydra.overrides.task)
        except InputError as error:
            sys.exit(masked(f"error: {error}"))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Workers of any launcher inherit the environment.
        os.environ[SWEEP] = sweep = uuid.uuid4().hex[:8]
        try:
            preflight(config)
            begin(sweep_folder(Path(config.hydra.sweep.dir).absolute(), sweep))
            study = study_of(config)
            if study:
                jobs = sweep_folder(Path(config.hydra.sweep.dir).absolute(), study)
                if is_new(config.hydra.sweeper):
                    shutil.rmtree(jobs, ignore_errors=True)
                earlier = len(list(jobs.glob("*"))) if jobs.exists() else 0
                os.environ[SWEEP] = f"{study}/{earlier:04d}-{sweep}"
        except (InputError, OSError) as error:
            sys.exit(masked(f"error: {error}"))  # Hydra would swallow what is no SystemExit

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra has written the config of the sweep there, as it was typed.
        path = Path(config.hydra.sweep.dir) / "multirun.yaml"
        if path.is_file() and masked(text := path.read_text(encoding="utf-8")) != text:
            write_whole(path, masked(text).encode())

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = os.environ.pop(SWEEP, None)
        try:
            self._collect(config, sweep)
        except Exception as error:
            # Hydra would swallow it and exit with 0.
            log.error("error: the table could not be made: %s", error)
            count_failures(1)

    def _collect(self, config: DictConfig, sweep: str | None) -> None:
        from hydra.core.hydra_config import HydraConfig

        from neurosearch.report.table import make_tables, read_records
        from neurosearch.task.base import build

        # The jobs' own config is composed without the sweep's node: the callback's has it.
        HydraConfig.instance().set_config(config)
        folder = sweep_folder(Path(config.hydra.sweep.dir).absolute(), str(sweep))
        records = read_records(folder)
        unfinished = [r for r in records if r["status"] not in ("done", "pruned")]
        count_failures(len(unfinished))
        if study_of(config):
            records = _trials(read_records(folder.parent))
        else:
            discard()
        report, tracking = build(config, "report"), build(config, "tracking")
        tables = make_tables(records, command_line())
        written = report.present(tables, Path(config.paths.outputs) / "tables" / config.name)
        for path in written:
            if path.suffix == ".csv" and path.parent.name == config.name:
                tracking.table(config.name, path, str(sweep))
        for record in unfinished:
            log.error("failed: %s: %s", " ".join(record["overrides"]), record.get("error"))
        if written:
            log.info("tables: %s", ", ".join(str(path) for path in written))


def _trials(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last record of each trial that is still there."""
    latest = list({record["folder"]: record for record in records}.values())
    there = [
        record
        for record in latest
        if Path(record["folder"]).is_dir()
        and (not record.get("metrics") or Path(record["metrics"]).is_file())
    ]
    if len(there) < len(latest):
        log.warning("%d earlier trials were deleted: no rows", len(latest) - len(there))
    return there
