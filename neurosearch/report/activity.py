"""What lies in an outputs folder: jobs, what is being built, time spent, trainings, tables."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from neurosearch.report.provenance import thinned_curve

RECORD, LOG = "record.json", "app.log"
HEADLINE = "nDCG@10"
TRAININGS = 40  # whose curves are shown, the latest ones
UNFINISHED = re.compile(r" (building|waiting:|training|encoding) ")
QUIET = 60  # seconds after which a job counts as stopped, if nobody builds anything


def jobs(outputs: Path) -> list[dict[str, Any]]:
    """Every job's folder, the latest first.

    Args:
        outputs: the folder of all results.

    Returns:
        `experiment`, `name`, `status` (done, failed, pruned, running, stopped), `label`, `value`
        (nDCG@10), `seconds`, `when`, `hardware`, `reason` (of a failure, or the last log line of
        what has no record), `artifacts` (events), `age` in seconds.
    """
    busy = any(one["held"] for one in building(outputs))
    found = [_job(path, busy) for path in _folders(outputs / "jobs")]
    return sorted(found, key=lambda job: float(job["age"]))


def _folders(root: Path) -> Iterator[Path]:
    """Folders of jobs: those with a record or a log."""
    for experiment in sorted(root.glob("*")):
        if experiment.is_dir() and not experiment.name.startswith("."):
            for folder in sorted(experiment.glob("*")):
                log = folder / LOG  # that of a task without a record, such as this one, is empty
                if (folder / RECORD).is_file() or (log.is_file() and log.stat().st_size):
                    yield folder


def _job(folder: Path, busy: bool) -> dict[str, Any]:
    record, written = _record(folder / RECORD)
    logged = (folder / LOG).stat().st_mtime if (folder / LOG).is_file() else 0.0
    age = time.time() - max(written, logged)
    job: dict[str, Any] = {
        "experiment": folder.parent.name,
        "name": folder.name,
        "status": record.get("status", "done") if record else "",
        "label": record.get("label", ""),
        "seed": record.get("seed", ""),
        "value": (record.get("means") or {}).get(HEADLINE),
        "seconds": record.get("seconds"),
        "hardware": record.get("hardware", ""),
        "reason": record.get("error") or "",
        "artifacts": record.get("artifacts") or [],
        "when": datetime.fromtimestamp(max(written, logged)).strftime("%Y-%m-%d %H:%M"),
        "age": age,
    }
    if not record:
        job["reason"] = _last_line(folder / LOG)
        if "error: " in job["reason"]:
            job["status"] = "failed"
        elif UNFINISHED.search(job["reason"]):
            job["status"] = "running" if age < QUIET or busy else "stopped"
        else:
            job["status"] = "running" if age < QUIET else "done"  # a task that writes no record
    return job


def _record(path: Path) -> tuple[dict[str, Any], float]:
    """A record and when it was written; one that can't be read counts as a failure."""
    if not path.is_file():
        return {}, 0.0
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(record, dict)
    except (OSError, ValueError, AssertionError):
        record = {"status": "failed", "error": f"{path} can't be read"}
    return record, path.stat().st_mtime


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else ""


def building(outputs: Path) -> list[dict[str, Any]]:
    """Artifacts whose build has begun and not ended, and whether a process is at it.

    Args:
        outputs: the folder of all results.

    Returns:
        `kind`, `fingerprint`, `minutes` since the last file was written, `held`: by a process.
    """
    found = []
    for folder in sorted((outputs / "artifacts").glob("*/.*.building")):
        name = folder.name.removeprefix(".").removesuffix(".building")
        latest = max((f.stat().st_mtime for f in folder.rglob("*")), default=folder.stat().st_mtime)
        minutes = (time.time() - latest) / 60
        held = _is_held(folder.parent / f".{name}.lock")
        found.append(
            {"kind": folder.parent.name, "fingerprint": name, "minutes": minutes, "held": held}
        )
    return found


def _is_held(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    if not lock.exists():
        return False
    try:
        with FileLock(str(lock), timeout=0):
            return False
    except Timeout:
        return True


def spent(found: list[dict[str, Any]]) -> list[tuple[str, int, float, float]]:
    """Time by kind of artifact, of what the jobs built.

    Args:
        found: of `jobs`.

    Returns:
        Kind, how many were built, hours, and the hours of them on machines with a GPU; most first.
    """
    kinds: dict[str, list[float]] = {}
    for job in found:
        on_gpu = " + " in job["hardware"]
        for event in job["artifacts"]:
            if event["event"] == "built":
                total = kinds.setdefault(event["kind"], [0, 0.0, 0.0])
                total[0] += 1
                total[1] += event["seconds"] / 3600
                total[2] += event["seconds"] / 3600 * on_gpu
    rows = [(kind, int(n), hours, gpu) for kind, (n, hours, gpu) in kinds.items()]
    return sorted(rows, key=lambda row: -row[2])


def trainings(outputs: Path, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `charts.training_curves`: the latest jobs that stand on a training.

    Args:
        outputs: the folder of all results.
        found: of `jobs`.

    Returns:
        `system` and `curves` of each.
    """
    rows: list[dict[str, Any]] = []
    seen: set[Path] = set()
    for job in found:
        curves = []
        for event in job["artifacts"]:
            path = outputs / "artifacts" / event["kind"] / event["fingerprint"] / "curves.csv"
            if path not in seen and path.is_file() and (curve := thinned_curve(path)):
                curves.append(curve)
                seen.add(path)
        if curves:
            rows.append({"system": f"{job['label']} (seed {job['seed']})", "curves": curves})
        if len(rows) >= TRAININGS:
            break
    return rows


def tables(outputs: Path) -> list[dict[str, str]]:
    """Pages of tables, the latest first.

    Args:
        outputs: the folder of all results.

    Returns:
        `experiment`, `name`, `when`, `link` (relative to the folder of the dashboard).
    """
    pages = sorted((outputs / "tables").glob("*/*.html"), key=lambda p: -p.stat().st_mtime)
    return [
        {
            "experiment": page.parent.name,
            "name": page.stem,
            "when": datetime.fromtimestamp(page.stat().st_mtime).strftime("%Y-%m-%d %H:%M"),
            "link": f"../tables/{page.parent.name}/{page.name}",
        }
        for page in pages
    ]
