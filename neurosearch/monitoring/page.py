"""The monitor's report as a page of its own, without scripts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.report.pages import rendered

TEMPLATE = Path(__file__).with_name("monitor.html.j2")
SHOWN = 15  # frequent queries
LEAST_CALLERS = 5  # a query is shown only if so many callers asked it, or the log names none


def page(report: dict[str, Any], window: pl.DataFrame) -> str:
    """HTML of a report.

    Args:
        report: as report.json holds it.
        window: one row a query, for its hours and its frequent queries.

    Returns:
        The page.
    """
    drift = [{**one, "bar": _bar(one["finding"])} for one in report["drift"]]
    hours = _hours(window)
    frequent = _frequent(window)
    return rendered(TEMPLATE, **{**report, "drift": drift}, hours=hours, frequent=frequent)


def _bar(finding: dict[str, float]) -> dict[str, float]:
    """Where the statistic and the end of its null lie, in per cent of the larger one."""
    most = max(finding["statistic"], finding["null"], 1e-12)
    return {
        "statistic": round(100 * max(0.0, finding["statistic"]) / most, 1),
        "null": round(100 * max(0.0, finding["null"]) / most, 1),
    }


def _hours(window: pl.DataFrame) -> list[dict[str, Any]]:
    """Queries and queries without a product by hour."""
    grouped = (
        window.with_columns(hour=pl.col("time").str.slice(0, 13))
        .group_by("hour", maintain_order=True)
        .agg(pl.len().alias("queries"), (pl.col("products") == 0).sum().alias("empty"))
    )
    most = max(grouped["queries"].to_list(), default=1)
    return [{**row, "share": round(100 * row["queries"] / most, 1)} for row in grouped.to_dicts()]


def _frequent(window: pl.DataFrame) -> list[tuple[str, int]]:
    """Queries that many callers asked: a rare one may be about a person."""
    known = window.filter(pl.col("text").is_not_null())
    callers: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for number, (text, client) in enumerate(known.select("text", "client").iter_rows()):
        callers.setdefault(text, set()).add(client or str(number))
        counts[text] += 1
    shown = [(text, n) for text, n in counts.most_common() if len(callers[text]) >= LEAST_CALLERS]
    return shown[:SHOWN]
