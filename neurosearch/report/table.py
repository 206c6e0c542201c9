"""From job records to tables."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurosearch.core.digests import digest
from neurosearch.report.aggregation import Row, baseline_of, is_named, rows_of, shortened

UNTESTED = ("tokenizer", "detector")  # protocols whose tables have no queries to test over


@dataclass(frozen=True)
class Table:
    """Rows in the sweep's order; never of two data sets, protocols, splits, gains or tie rules.

    `baseline` is the system that the others are tested against, '' without one.
    """

    experiment: str
    data: str
    variant: str
    protocol: str
    split: str
    gain: str
    gain_choice: str
    baseline: str
    resamples: int
    rows: tuple[Row, ...]
    gain_words: str = ""  # what labels are worth
    depth: int = 0  # of the runs, which condensed metrics rest on; 0 where it is not known
    wanted: str = ""  # what `evaluation.baseline` says
    ties: str = "trec_eval"
    choice: str = ""  # the data's config choice
    simulated: bool = False
    precision: str = ""
    command: str = ""

    @property
    def stem(self) -> str:
        """File name: the data's, with what departs from the defaults."""
        extra = [] if self.protocol in ("catalogue", *UNTESTED) else [self.protocol]
        extra += [] if self.split in ("test", "") else [self.split]
        preset = self.gain_choice.partition("/")[0]  # changing/home_depot is a preset of changing
        extra += [] if preset in (self.choice or self.data, "") else [self.gain_choice]
        extra += [] if self.ties == "trec_eval" else [f"{self.ties}_ties"]
        whole = ".".join([",".join(filter(None, [self.data, self.variant])), *extra])
        safe = re.sub(r"[^\w.,=+:-]", "_", whole)
        # A file's name may have 255 bytes, and its ending and a temporary name need some.
        return safe if len(safe) <= 150 else f"{safe[:130]}.{digest(whole)[:8]}"

    @property
    def title(self) -> str:
        """Experiment, data with what departs from its defaults, and protocol."""
        data = f"{self.data} with {self.variant}" if self.variant else self.data
        return f"{self.experiment}: {data}, {self.protocol}"

    @property
    def has_baseline(self) -> bool:
        """Whether a row is what the others are tested against."""
        return any(row.system == self.baseline for row in self.rows)

    @property
    def as_wanted(self) -> bool:
        """Whether the baseline is what `evaluation.baseline` names, not a stand-in."""
        rows = (row for row in self.rows if row.system == self.baseline)
        return any(is_named(record, self.wanted) for row in rows for record in row.records)

    def ranked(self, metric: str, lower_is_better: bool = False) -> list[str]:
        """Systems from best to worst on a metric, reference rows left out."""
        rows = [r for r in self.rows if metric in r.cells and not r.is_reference]
        rows.sort(key=lambda r: r.cells[metric].mean, reverse=not lower_is_better)
        return [r.system for r in rows]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The job records of a sweep, in its order."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.rglob("[0-9]*.json"))]


def make_tables(records: Sequence[dict[str, Any]], command: str = "") -> list[Table]:
    """One table for each data set (its folds joined), protocol, split, gain and rule for ties.

    `command`: what made them, for their readers.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    failed: list[dict[str, Any]] = []
    for record in records:
        if record["status"] == "done":
            keys = ("data", "variant", "population", "protocol", "split", "gain_fingerprint")
            key = (*(record[k] for k in keys), record.get("ties", "trec_eval"))
            groups.setdefault(key, []).append(record)
        else:
            failed.append(record)
    tables = [_table(members, failed, command) for members in groups.values()]
    stems = [table.stem for table in tables]
    return [
        table if stems.count(table.stem) == 1 else _told_apart(table, tables, list(groups))
        for table in tables
    ]


def _table(members: list[dict[str, Any]], failed: list[dict[str, Any]], command: str) -> Table:
    first = members[0]
    holes = [r for r in failed if r.get("data") in (None, first["data"])]
    shared = set.intersection(*(set(r["overrides"]) for r in members + holes))
    baseline = "" if first["metrics"] is None else baseline_of(members)
    precisions = {p for record in members for p in record.get("precisions", ())}
    return Table(
        experiment=first["experiment"],
        data=first["data"],
        variant=first["variant"],
        protocol=first["protocol"],
        split=first["split"],
        gain=first["gain"],
        gain_choice=first["gain_choice"],
        baseline=baseline,
        resamples=first["resamples"],
        rows=(*rows_of(members, baseline), *(_hole(r, shared) for r in holes)),
        gain_words=first.get("gain_words", ""),
        depth=first.get("depth", 0),
        wanted=first["baseline"],
        ties=first.get("ties", "trec_eval"),
        choice=first.get("data_choice", ""),
        simulated=first.get("simulated", first["data"] == "shop"),
        precision=", ".join(sorted(precisions)),
        command=command,
    )


def _told_apart(table: Table, tables: list[Table], keys: list[tuple[str, ...]]) -> Table:
    """A table whose file name another one has, named by what it differs in."""
    alike = [other for other in tables if other.stem == table.stem]
    shared = _common(table)
    differs = shared.difference(*(_common(other) for other in alike if other is not table))
    # Data sets of one name that no override tells apart: their content does.
    name = shortened(sorted(differs)) or keys[tables.index(table)][2][:6]
    plain = re.sub(r"[^\w=.,-]+", "-", name)
    return replace(table, variant=",".join(filter(None, [table.variant, plain])))


def _common(table: Table) -> set[str]:
    """Overrides that all jobs of a table share."""
    jobs = [set(record["overrides"]) for row in table.rows for record in row.records]
    return set.intersection(*jobs) if jobs else set()


def _hole(record: dict[str, Any], shared: set[str]) -> Row:
    """The row of a job that did not finish, named by what it doesn't share with all others."""
    differs = [o for o in record["overrides"] if o not in shared]
    name = shortened(differs or record["overrides"]) or record["folder"]
    pruned = record["status"] == "pruned"
    message = record.get("error") or record["status"]
    return Row(name, failed=message if pruned else f"failed: {message}", pruned=pruned)
