"""From job records to tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurosearch.report.rows import Row, rows_of, shortened


@dataclass(frozen=True)
class Table:
    """Rows in the sweep's order; never of two data sets, protocols, splits or gains."""

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

    @property
    def stem(self) -> str:
        """File name: the data's, with what departs from the defaults."""
        extra = [] if self.protocol in ("catalogue", "tokenizer") else [self.protocol]
        extra += [] if self.split in ("test", "") else [self.split]
        extra += [] if self.gain_choice in (self.data, "") else [self.gain_choice]
        return ".".join([",".join(filter(None, [self.data, self.variant])), *extra])

    @property
    def has_baseline(self) -> bool:
        """Whether a row is what the others are tested against."""
        return any(row.system == self.baseline for row in self.rows)

    def ranked(self, metric: str, lower_is_better: bool = False) -> list[str]:
        """Systems from best to worst on a metric, floors left out."""
        rows = [r for r in self.rows if metric in r.cells and not r.floor]
        rows.sort(key=lambda r: r.cells[metric].mean, reverse=not lower_is_better)
        return [r.system for r in rows]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The job records of a sweep, in its order."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.rglob("[0-9]*.json"))]


def make_tables(records: Sequence[dict[str, Any]]) -> list[Table]:
    """One table for each data set (its folds joined), protocol, split and gain."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    failed: list[dict[str, Any]] = []
    for record in records:
        if record["status"] == "done":
            keys = ("data", "variant", "population", "protocol", "split", "gain_fingerprint")
            key = tuple(record[k] for k in keys)
            groups.setdefault(key, []).append(record)
        else:
            failed.append(record)
    tables = []
    for members in groups.values():
        holes = [r for r in failed if r.get("data") in (None, members[0]["data"])]
        shared = set.intersection(*(set(r["overrides"]) for r in members + holes))
        rows = rows_of(members) + [_hole(r, shared) for r in holes]
        first = members[0]
        tables.append(
            Table(
                experiment=first["experiment"],
                data=first["data"],
                variant=first["variant"],
                protocol=first["protocol"],
                split=first["split"],
                gain=first["gain"],
                gain_choice=first["gain_choice"],
                baseline=first["baseline"],
                resamples=first["resamples"],
                rows=tuple(rows),
            )
        )
    stems = [table.stem for table in tables]
    return [
        table if stems.count(table.stem) == 1 else replace(table, variant=f"{table.variant},{n}")
        for n, table in enumerate(tables, 1)
    ]


def _hole(record: dict[str, Any], shared: set[str]) -> Row:
    """The row of a job that did not finish, named by what it doesn't share with all others."""
    told = [o for o in record["overrides"] if o not in shared]
    name = shortened(told or record["overrides"]) or record["folder"]
    pruned = record["status"] == "pruned"
    told = record.get("error") or record["status"]
    return Row(name, failed=told if pruned else f"failed: {told}", pruned=pruned)
