"""The table as one self-contained page: sortable, intervals on hover, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurosearch.report.form import interval, mark, note, number, places, shown
from neurosearch.report.table import Row, Table

TEMPLATE = Path(__file__).with_name("table.html.j2")


def write(table: Table, columns: Sequence[str]) -> str:
    """The page."""
    from jinja2 import Environment

    names = shown(table, columns)
    ranks = {name: places(table, name) for name in names}
    rows = [
        {
            "system": row.caption,
            "failed": row.failed,
            "floor": row.floor,
            "cells": [] if row.failed else [_cell(row, name, ranks[name]) for name in names],
        }
        for row in table.rows
    ]
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(table=table, names=names, rows=rows, note=note(table))


def _cell(row: Row, metric: str, places: tuple[set[str], set[str]]) -> dict[str, Any]:
    if metric not in row.cells:
        return {"text": "", "sort": "", "title": "", "rank": ""}
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
    }
