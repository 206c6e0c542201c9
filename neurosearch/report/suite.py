"""The report `suite`: beside a table for each data set one over all, a column a data set.

The macro mean is of data sets. A system that a data set lacks has no macro mean. Tests are against
the baseline row. Parts or folds of one catalogue are not several data sets, and are refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.store import write_whole
from neurosearch.evaluation.holm import holm
from neurosearch.evaluation.over_sets import (
    LEAST_SETS,
    friedman,
    macro_difference,
    ranks,
    stratified_test,
    two_level_interval,
)
from neurosearch.report.aggregation import Row
from neurosearch.report.formatting import commits_of, mark, number
from neurosearch.report.paper import Report
from neurosearch.report.table import Table

STEM = "suite"


@dataclass(frozen=True)
class Suite(Report):
    """See `Report`; the first column is what the suite shows of each data set."""

    def present(self, tables: Sequence[Table], folder: Path) -> list[Path]:
        written = super().present(tables, folder)
        try:
            check(tables)
        except InputError as error:
            log.warning("no suite: %s", error)
            return written
        text, rows = suite(tables, self.columns[0])
        for place in [folder, *([Path(self.publish)] if self.publish else [])]:
            place.mkdir(parents=True, exist_ok=True)
            for name, content in ((f"{STEM}.md", text), (f"{STEM}.csv", _csv(rows))):
                write_whole(place / name, content.encode())
                written.append(place / name)
        print(text)
        return written


def check(tables: Sequence[Table]) -> None:
    """Raise InputError for tables that are no suite.

    Args:
        tables: one a data set.
    """
    names = [table.data for table in tables]
    if len(set(names)) < 2:
        raise InputError("it needs two data sets or more: data=home_depot,chorus")
    again = [name for name in names if names.count(name) > 1]
    if again:
        raise InputError(f"{again[0]} is there twice: parts of one catalogue are no data sets")


def suite(tables: Sequence[Table], metric: str) -> tuple[str, list[dict[str, object]]]:
    """The table over all data sets.

    Args:
        tables: one a data set.
        metric: that is shown.

    Returns:
        Markdown, and its rows.
    """
    found = [{row.system: row for row in table.rows if metric in row.cells} for table in tables]
    systems = list(dict.fromkeys(name for part in found for name in part))
    whole = [name for name in systems if all(name in part for part in found)]
    tested = [n for n in whole if not found[0][n].is_reference]
    scores = np.array([[part[name].cells[metric].mean for name in tested] for part in found])
    placed = ranks(scores) if len(tested) > 1 else np.ones_like(scores)
    base = next((t.baseline for t in tables if t.baseline in whole), None)
    over = _over_sets(tables, found, tested, base, metric)
    rows: list[dict[str, object]] = []
    for name in systems:
        row: dict[str, object] = {"system": name}
        for table, part in zip(tables, found, strict=True):
            there = part.get(name)
            row[table.data] = _cell(there, metric) if there else ""
        if name in tested:
            at = tested.index(name)
            row["macro mean"] = number(metric, float(scores[:, at].mean()))
            row["mean rank"] = f"{placed[:, at].mean():.2f}"
            row["best of"] = int((placed[:, at] == placed.min(axis=1)).sum())
            row |= over.get(name, {})
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = f"## {tables[0].experiment}: {metric} on {len(tables)} data sets\n\n"
    if any(table.simulated for table in tables):
        text += "SIMULATED: " + ", ".join(t.data for t in tables if t.simulated) + ".\n\n"
    text += f"| {' | '.join(columns)} |\n|:---|{'---:|' * (len(columns) - 1)}\n"
    for row in rows:
        text += f"| {' | '.join(str(row.get(column, '')) for column in columns)} |\n"
    return text + _note(tables, placed, tested, base), rows


def _cell(row: Row, metric: str) -> str:
    """The mean, its spread over seeds, and the mark of a difference within the data set."""
    cell = row.cells[metric]
    spread = f" ± {number(metric, cell.sd_seeds)}" if np.isfinite(cell.sd_seeds) else ""
    return f"{number(metric, cell.mean)}{spread}{mark(row, metric)}"


def _over_sets(
    tables: Sequence[Table],
    found: Sequence[dict[str, Row]],
    systems: Sequence[str],
    base: str | None,
    metric: str,
) -> dict[str, dict[str, object]]:
    """Macro difference to the baseline, its p for these sets and its interval for others."""
    if base is None:
        return {}
    resamples = tables[0].resamples
    others = [name for name in systems if name != base]
    differences = {
        name: [_difference(part[name], part[base], metric) for part in found] for name in others
    }
    p = [stratified_test(parts, resamples, 0) for parts in differences.values()]
    adjusted = holm(np.array(p)) if p else np.empty(0)
    rows: dict[str, dict[str, object]] = {}
    for name, value in zip(others, adjusted, strict=True):
        low, high = two_level_interval(differences[name], min(resamples, 2000), 0)
        rows[name] = {
            "macro difference": f"{macro_difference(differences[name]):+.3f}",
            "p (these sets)": f"{value:.4f}",
            "95 % (sets like these)": f"[{low:+.3f}, {high:+.3f}]",
        }
    return rows


def _difference(one: Row, other: Row, metric: str) -> np.ndarray:
    """By query, over those where the metric is defined for both."""
    both = _by_query(one, metric).join(_by_query(other, metric), on="query_id", suffix=" of other")
    both = both.drop_nulls().sort("query_id")
    gap: np.ndarray = (both[metric] - both[f"{metric} of other"]).to_numpy()
    return gap


def _by_query(row: Row, metric: str) -> pl.DataFrame:
    """`query_id` and the metric, the seeds averaged; null where it is undefined."""
    parts = [
        pl.read_parquet(record["metrics"], columns=["query_id", metric], glob=False)
        for record in row.records
    ]
    return pl.concat(parts).group_by("query_id").agg(pl.col(metric).mean())


def _note(
    tables: Sequence[Table], placed: np.ndarray, systems: Sequence[str], base: str | None
) -> str:
    gains = "; ".join(
        f"{table.data} {table.gain} ({table.gain_words}), {table.rows[0].queries:,} "
        f"{table.split} queries"
        for table in tables
    )
    lines = [f"Gains: {gains}.", "The macro mean is the mean over data sets."]
    if base is not None:
        lines.append(
            f"† above, ‡ below {base} within the data set (Holm over its table). Macro difference "
            f"to {base}: p by flipping signs within each data set, Holm over the systems, for "
            "these data sets; interval by resampling data sets, then queries, for others like them."
        )
    if len(tables) < LEAST_SETS:
        lines.append(
            f"Ranks are not tested: {len(tables)} data sets, a rank test needs {LEAST_SETS}."
        )
    elif len(systems) > 1:
        test = friedman(placed.mean(axis=0), len(tables))
        lines.append(
            f"Friedman: chi² {test.chi2:.2f}, F {test.F:.2f}, p {test.p:.4f}; Nemenyi's critical "
            f"difference of mean ranks at .05: {test.critical_difference:.2f}."
        )
    commits = ", ".join(commits_of(row for t in tables for row in t.rows))
    hardware = "; ".join(
        dict.fromkeys(row.hardware for t in tables for row in t.rows if row.hardware)
    )
    lines.append(f"Hardware: {hardware}. Commit: {commits}.")
    lines.append(f"Command: {tables[0].command}")
    return "\n" + "  \n".join(lines) + "\n"


def _csv(rows: Sequence[dict[str, object]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    target = io.StringIO()
    writer = csv.DictWriter(target, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue()
