"""The table as one self-contained page: sortable, with what lies beneath it; no network.

Beneath: quality against cost, any two systems query by query with their lists, kinds of queries,
and how each row was made (config, training curves, health of semantic IDs, importances).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurosearch.report.aggregation import Row
from neurosearch.report.charts import charts, curve_name, library
from neurosearch.report.formatting import (
    LOWER_IS_BETTER,
    interval,
    mark,
    note,
    number,
    places,
    shown,
)
from neurosearch.report.pages import rendered, script_data
from neurosearch.report.per_query import HEADLINE, evidence
from neurosearch.report.provenance import making
from neurosearch.report.table import Table

HERE = Path(__file__).parent
QUERIES = 400  # whose lists are in the page


def write(table: Table, columns: Sequence[str]) -> str:
    """The page."""
    from markupsafe import Markup

    names = shown(table, columns)
    ranks = {name: places(table, name) for name in names}
    rows = [
        {
            "system": row.caption,
            "failed": row.failed,
            "is_reference": row.is_reference,
            "cells": [] if row.failed else [_cell(row, name, ranks[name]) for name in names],
        }
        for row in table.rows
    ]
    comparison, made = evidence(table, QUERIES), making(table)
    drawn = charts(table, made)
    titles = {"table": "Table"}
    titles |= {"pareto": "Quality against cost"} if "pareto" in drawn else {}
    titles |= {"queries": "Query by query"} if len(comparison.get("systems", ())) > 1 else {}
    titles |= {"curves": "Training curves"} if "curves" in drawn else {}
    titles |= {"made": "How each row was made"} if made else {}
    facts = {
        "charts": drawn,
        "queries": comparison,
        "pair": _pair(table, comparison),
    }
    return rendered(
        HERE / "table.html.j2",
        table=table,
        names=[(name, name in LOWER_IS_BETTER) for name in names],
        rows=rows,
        note=note(table),
        making=made,
        sections=list(titles.items()),
        ids=titles,
        listed=len(comparison.get("listed", ())),
        total=len(comparison.get("queries", ())),
        facts=script_data(facts),
        style=Markup(_read("table.css")),
        script=Markup(_read("table.js")),
        charts=drawn,
        curves=_first_and_last(made),
        library=Markup(library() if drawn else ""),
    )


def _first_and_last(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """The training curves in words: each training's name, and each metric's ends."""
    return [
        (
            curve_name(row, training),
            "; ".join(
                f"{metric} {points[0][1]:.3g} to {points[-1][1]:.3g}"
                for metric, points in training["metrics"].items()
            ),
        )
        for row in rows
        for training in row["curves"]
    ]


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _pair(table: Table, comparison: dict[str, Any]) -> list[int]:
    """The best system and the baseline, by number: what is compared first."""
    systems = comparison.get("systems", [])
    if len(systems) < 2:
        return [0, 0]
    best = next((s for s in table.ranked(HEADLINE) if s in systems and s != table.baseline), "")
    first = systems.index(best) if best in systems else 1
    second = systems.index(table.baseline) if table.baseline in systems else 0
    return [first, second if second != first else int(first == 0)]


def _cell(row: Row, metric: str, places: tuple[set[str], set[str]]) -> dict[str, Any]:
    if metric not in row.cells:
        return {"text": "", "sort": "", "title": "", "rank": "", "ends": ""}
    cell = row.cells[metric]
    facts = [f"95 % {interval(row, metric)}"] if interval(row, metric) else []
    if not math.isnan(cell.p_holm):
        facts.append(f"p = {cell.p_holm:.2g}, d = {cell.effect:.2f}")
        facts.append(f"{cell.wins} queries won, {cell.losses} lost")
    if not math.isnan(cell.sd_seeds):
        facts.append(f"sd of seeds {number(metric, cell.sd_seeds)}")
    rank = "best" if row.system in places[0] else "second" if row.system in places[1] else ""
    return {
        "text": number(metric, cell.mean) + mark(row, metric),
        "sort": cell.mean,
        "title": "; ".join(facts),
        "rank": rank,
        "ends": interval(row, metric),
    }
