"""The report role: which columns a table shows, and in which forms it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosearch.core.command import without_how
from neurosearch.core.digests import digest
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.recipe import Recipe
from neurosearch.core.store import write_whole
from neurosearch.detector import power
from neurosearch.evaluation import arrivals, generation, holes, labels, seen
from neurosearch.evaluation.base import HEADLINE
from neurosearch.evaluation.latency import METRICS as LATENCY
from neurosearch.evaluation.metrics import METRICS, condensed_name
from neurosearch.evaluation.ties import BEST, WORST
from neurosearch.report import csv, html, latex, markdown
from neurosearch.report.formatting import DIAGNOSED
from neurosearch.report.table import UNTESTED, Table
from neurosearch.reranker.judgedness import AUC
from neurosearch.tokenizer import health

WRITERS = {"csv": csv.write, "markdown": markdown.write, "latex": latex.write, "html": html.write}
OWNERS = ".commands.json"  # which command each table of a folder is of
SUFFIXES = {"csv": "csv", "markdown": "md", "latex": "tex", "html": "html"}


@dataclass(frozen=True)
class Report(Recipe):
    """Attributes:
    columns: of the readable forms, the first being the headline; the CSV has every metric.
    formats: among csv, markdown, latex, html.
    publish: a folder that also gets csv, markdown and latex (experiments/<name>/results).
    """

    columns: tuple[str, ...]
    formats: tuple[str, ...] = ("csv", "markdown", "latex", "html")
    publish: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.formats if name not in WRITERS]
        if unknown:
            raise self.error("formats", f"has {unknown}; known are {', '.join(WRITERS)}")
        known = (
            *METRICS,
            *power.METRICS,
            WORST,
            BEST,
            *LATENCY,
            *health.METRICS,
            *generation.METRICS,
            *seen.METRICS,
            *DIAGNOSED,
            *arrivals.METRICS,
            *holes.METRICS,
            *labels.METRICS,
            AUC,
        )
        levels = generation.BY_LEVEL
        strange = [
            name
            for name in self.columns
            if name not in known
            and name.rpartition("@")[0] not in levels
            and not name.startswith(labels.BY_CLASS)
            and not name.startswith(condensed_name(0)[:-1])  # a depth: see `evaluation=holes`
            and not name.startswith(f"{HEADLINE} ")  # of a slice: see `evaluation.by`
        ]
        if strange:
            message = ", ".join((*known, *(f"{name}@1" for name in levels)))
            raise self.error("columns", f"has {strange}; known are {message}")

    def check_writable(self, folder: Path) -> None:
        """Raise InputError where tables can't be written, to `folder` or to `publish`."""
        places = {"paths.outputs": folder}
        places |= {"report.publish": Path(self.publish)} if self.publish else {}
        for key, place in places.items():
            try:
                there = next(p for p in (place, *place.absolute().parents) if p.exists())
            except PermissionError:
                there = place
            if not (os.access(there, os.W_OK) and there.is_dir()):
                raise InputError(f"{key}: {there} can't be written")

    def missing(self, tables: Sequence[Table]) -> list[str]:
        """What was asked for and is not in these tables: slices, and the baseline."""
        measured = {name for table in tables for row in table.rows for name in row.cells}
        sliced = [name for name in self.columns if name.startswith(f"{HEADLINE} ")]
        message = [
            f"report.columns: no row has {name!r} (evaluation.by says what queries are sliced by)"
            for name in sliced
            if name not in measured and name not in METRICS
        ]
        for table in tables:
            if table.protocol not in UNTESTED and not table.as_wanted and len(table.rows) > 1:
                stands = f"{table.baseline!r} stands in" if table.baseline else "nothing is tested"
                message.append(f"{table.stem}: no row is the baseline {table.wanted!r}: {stands}")
        return message

    def present(self, tables: Sequence[Table], folder: Path) -> list[Path]:
        """Warn of what is missing, write every table, and print them; returns the files."""
        for message in self.missing(tables):
            log.warning(message)
        written = self.write(tables, folder)
        for path in written:
            if path.suffix == ".md":
                print(path.read_text(encoding="utf-8"))
        return written

    def write(self, tables: Sequence[Table], folder: Path) -> list[Path]:
        """Write every table in every form; returns the files."""
        folders = [folder] + ([Path(self.publish)] if self.publish else [])
        written = []
        for table in tables:
            for place in folders:
                place.mkdir(parents=True, exist_ok=True)
                stem = table.stem if place is not folder else own_stem(table, folder)
                for name in self.formats:
                    if place is not folder and name == "html":
                        continue  # pictures and pages are made, not kept in the tree
                    path = place / f"{stem}.{SUFFIXES[name]}"
                    write_whole(path, WRITERS[name](table, self.columns).encode())
                    written.append(path)
        return written


def own_stem(table: Table, folder: Path) -> str:
    """The file name of a table in a folder of its experiment's tables.

    The first command that wrote the name has it; another one's table gets a digest of its command,
    so that two sweeps of one name don't overwrite each other.
    """
    index = folder / OWNERS
    try:
        owners: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        owners = {}
    command = without_how(table.command)
    stem = table.stem
    if owners.get(stem, command) != command:
        stem = f"{stem}.{digest(command)[:6]}"
    owners[stem] = command
    write_whole(index, json.dumps(owners, indent=1).encode())
    return stem
