"""`task=table task.jobs='[main/*, mine]'`: one table of jobs that were recorded earlier."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.core.command import command_line
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.report.table import make_tables
from neurosearch.task.base import RECORD, Job, Task, build


@dataclass(frozen=True)
class JoinJobs(Task):
    """`jobs`: patterns of folders below outputs/jobs; a folder stands for all jobs in it.

    Jobs of different data, protocols, splits or gains go into tables of their own. Statistics are
    computed anew, over all the systems of a table.
    """

    jobs: tuple[str, ...]

    def run(self, job: Job) -> None:
        root = job.runtime.outputs / "jobs"
        records = read_jobs(root, self.jobs)
        wanted = {"baseline": job.evaluation.baseline, "experiment": job.name}
        tables = make_tables([{**record, **wanted} for record in records], command_line())
        folder = job.runtime.outputs / "tables" / job.name
        written = build(job.config, "report").present(tables, folder)
        log.info("tables: %s", ", ".join(str(path) for path in written))


def jobs_of(folders: Sequence[str], example: str) -> list[dict[str, Any]]:
    """The records that a script was asked for on its command line, of `$NEUROSEARCH_OUTPUTS`.

    Args:
        folders: below outputs/jobs, as `read_jobs` takes them.
        example: of a folder, for the message where there is none.

    Returns:
        The records, as `read_jobs` orders them.

    Raises:
        SystemExit: no folder is named, or one has no finished job.
    """
    if not folders:
        raise SystemExit(f"which jobs? a folder below outputs/jobs, such as {example}")
    root = Path(os.environ.get("NEUROSEARCH_OUTPUTS", "outputs")) / "jobs"
    try:
        return read_jobs(root, tuple(folders))
    except InputError as error:
        raise SystemExit(f"{', '.join(folders)}: {error}") from None


def read_jobs(root: Path, patterns: tuple[str, ...]) -> list[dict[str, Any]]:
    """The finished records below `root` that match, in the order of patterns, then of sweeps.

    Raises InputError for a pattern that matches none, or an unreadable record.
    """
    jobs: dict[Path, dict[str, Any]] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise InputError(f"task.jobs: {pattern!r} leads out of {root}")
        paths = {p for q in (pattern, f"{pattern}/*") for p in root.glob(f"{q}/{RECORD}")}
        records = [_read(path) for path in sorted(paths)]
        done = [
            record for record in records if record.get("status") == "done" and record.get("means")
        ]
        if not done:
            raise InputError(f"task.jobs: no finished job below {root} matches {pattern!r}")
        for record in sorted(done, key=lambda r: (r["experiment"], r["number"])):
            jobs.setdefault(Path(record["folder"]), record)
    return list(jobs.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        metrics = record.get("metrics")
        if metrics and not Path(metrics).is_file():
            raise InputError(f"{path.parent}: its metrics were pruned; run the job again")
        return {**record, "folder": str(path.parent)}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no job record ({error})") from None
