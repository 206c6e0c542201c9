"""Delete artifacts that no kept job refers to: what a deleted job's folder leaves behind.

A job keeps what its record names, and all that stands below it. Delete jobs' folders first (or keep
them all: then only what failed or was tried without a record goes). Says what it would do, unless
`task.delete=true`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import MANIFEST
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.engine.generation import Generation
from neurosearch.engine.pruning import drop, embedded_here, unused
from neurosearch.retriever.engine import engines_in
from neurosearch.task.base import RECORD, Job, Task

Key = tuple[str, str]  # kind and fingerprint
# An artifact's folder, a build that was given up, a prune that was killed, an older release's
# scratch folder.
STORED = re.compile(r"[0-9a-f]{24}|\.[0-9a-f]{24}\.(building|pruned)|tmp\w+")


@dataclass(frozen=True)
class Prune(Task):
    """Attributes:
    delete: do it; else only say what would go.
    hours: what was built or reused since then stays; a job that is running may be about to refer
        to it.
    """

    delete: bool = False
    hours: float = setting(24.0, least=0)

    def run(self, job: Job) -> None:
        from rich.console import Console
        from rich.table import Table

        outputs = job.runtime.outputs
        going = {path: _bytes(path) for path in unreferenced(outputs, self.hours)}
        table = Table("kind", "artifacts", "MB")
        for kind in sorted({path.parent.name for path in going}):
            sizes = [size for path, size in going.items() if path.parent.name == kind]
            table.add_row(kind, str(len(sizes)), f"{sum(sizes) / 1e6:,.1f}")
        freed = sum(going.values()) / 1e6
        # What another process has begun to use meanwhile stays.
        gone = sum(remove(path) for path in going if is_older(path, self.hours) and self.delete)
        console = Console(width=100, highlight=False)
        console.print(table)
        self._generations(job, {path.name for path in going}, console)
        if self.delete:
            console.print(f"{gone} of {len(going)} artifacts deleted, {freed:,.1f} MB")
        else:
            console.print(f"{len(going)} artifacts, {freed:,.1f} MB; task.delete=true deletes them")

    def _generations(self, job: Job, going: set[str], console: Any) -> None:
        """Those of embedded engines, and of the composed one, whose artifacts are gone."""
        folder = job.runtime.outputs / "artifacts" / Generation.kind
        there = {path.name.lstrip(".").partition(".")[0] for path in folder.glob("*")}
        composed = [one.engine for one in engines_in(job.retriever)]
        others = [one for one in composed if not one.is_embedded]
        for engine in (*embedded_here(job.runtime), *others):
            names = unused(engine, job.runtime, there - going)
            if names and self.delete:
                gone = drop(engine, job.runtime, names)
                console.print(f"{engine.title}: {gone} of {len(names)} generations deleted")
            elif names:
                console.print(f"{engine.title}: {len(names)} generations would be deleted")


def unreferenced(outputs: Path, hours: float) -> Iterator[Path]:
    """Folders of artifacts, and of builds that were given up, older than `hours`, that go.

    Links are left alone, and so is all that no store has made.
    """
    if not (outputs / "artifacts").is_dir():
        raise InputError(f"paths.outputs={outputs}: there are no artifacts")
    kept = referenced(outputs)
    for folder in sorted((outputs / "artifacts").glob("*/*")):
        ours = STORED.fullmatch(folder.name) and folder.is_dir()
        if not ours or folder.is_symlink() or folder.parent.is_symlink():
            continue
        if is_older(folder, hours) and (folder.parent.name, folder.name) not in kept:
            yield folder


def is_older(folder: Path, hours: float) -> bool:
    """Whether it was last built or reused so long ago."""
    return folder.stat().st_mtime <= time.time() - 3600 * hours


def referenced(outputs: Path) -> set[Key]:
    """What the records of all jobs name, and everything below it.

    Raises InputError for a record or a manifest that can't be read: who knows what it names.
    """
    waiting: list[Key] = []
    for path in _records(outputs / "jobs"):
        record = _read(path)
        # A search keeps its trials' records; those of jobs that were deleted count no more.
        if record and Path(record.get("folder", path.parent)).is_dir():
            waiting += [(x["kind"], x["fingerprint"]) for x in record.get("artifacts") or []]
    kept: set[Key] = set()
    while waiting:
        key = waiting.pop()
        if key in kept:
            continue
        kept.add(key)
        manifest = outputs / "artifacts" / key[0] / key[1] / MANIFEST
        if manifest.exists():
            waiting += [(kind, name) for kind, name in _read(manifest, "inputs")["inputs"]]
    return kept


def _records(jobs: Path) -> list[Path]:
    """The records of jobs, and of sweeps that run; jobs' folders may be links."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be read; nothing was deleted")

    paths: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(jobs, followlinks=True, onerror=refuse):
        folders[:] = [x for x in folders if os.path.realpath(f"{place}/{x}") not in seen]
        seen.update(os.path.realpath(f"{place}/{x}") for x in folders)
        swept = ".sweeps" in Path(place).relative_to(jobs).parts
        named = [x for x in files if x == RECORD or (swept and x[0].isdigit())]
        paths += [Path(place, name) for name in named]
    return paths


def _read(path: Path, *needed: str) -> dict[str, Any]:
    """A JSON object with these keys; empty where the file has gone meanwhile."""
    try:
        message: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return dict.fromkeys(needed, ())
    except (OSError, ValueError) as error:
        message = error
    if not isinstance(message, dict) or not set(needed) <= set(message):
        mended = "run its job again, or delete its folder; nothing was deleted"
        raise InputError(f"{path} can't be read: {mended}")
    return message


def remove(folder: Path) -> bool:
    """Delete a folder under its artifact's lock; not where another process holds that."""
    from filelock import FileLock, Timeout

    name = folder.name.removesuffix(".building").removesuffix(".pruned").lstrip(".")
    lock = FileLock(str(folder.parent / f".{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("in use: %s", folder)
        return False
    try:
        # Renamed first, so that no other process can load a part of it.
        away = folder.with_name(f".{name}.pruned")
        if folder != away:
            shutil.rmtree(away, ignore_errors=True)
            folder.rename(away)
        shutil.rmtree(away)
    finally:
        lock.release()
    return True


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
