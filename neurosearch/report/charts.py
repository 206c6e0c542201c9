"""Charts of the page, as Vega-Lite specifications: quality against cost, and training curves.

Vega draws them (labels that would collide are left out, points have tooltips, the picture has a
description for screen readers). Its JavaScript ships in the package `vl-convert-python` and is
written into the page, so that the page needs no network.

Satyanarayan et al., "Vega-Lite: A grammar of interactive graphics", IEEE TVCG 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from neurosearch.report.per_query import HEADLINE
from neurosearch.report.table import Table

COSTS = ("p50 ms", "index MB", "bytes/product", "build s")
INK = "#4c78a8"
HEIGHT = 260  # pixels of a plot; its width is the page's


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which defines `vegaEmbed`."""
    import vl_convert

    # Its names stay its own; nothing in a script element may look like its end.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{{bundle}}})();".replace("</script", "<\\/script")


def charts(table: Table, rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Every chart that the table's rows give.

    Args:
        rows: how each row was made (`provenance.making`), with its `curves`.

    Returns:
        By section of the page ("pareto", "curves"), specifications; no section without a chart.
    """
    fronts = [spec for cost in COSTS if (spec := quality_against(table, cost))]
    trained = [row for row in rows if row["curves"]]
    return {
        **({"pareto": fronts} if fronts else {}),
        **({"curves": [training_curves(trained)]} if trained else {}),
    }


def quality_against(table: Table, cost: str) -> dict[str, Any]:
    """One point a system, the Pareto front joined by a line.

    On the front is a system if no other one is as good and as cheap, and better in one of the two.

    Args:
        cost: a column of which less is better.

    Returns:
        The specification; empty where fewer than two systems have the cost.
    """
    rows = [r for r in table.rows if {HEADLINE, cost} <= set(r.cells) and not r.is_reference]
    points = [(r.system, round(r.cells[cost].mean, 3), r.cells[HEADLINE].mean) for r in rows]
    if len(points) < 2:
        return {}
    values: list[dict[str, Any]] = [
        {
            "system": system,
            "cost": x,
            "quality": round(y, 4),
            "front": not any(a <= x and b >= y and (a < x or b > y) for _, a, b in points),
        }
        for system, x, y in points
    ]
    names = [value["system"] for value in sorted(values, key=lambda v: v["cost"]) if value["front"]]
    scale = "log" if all(value["cost"] > 0 for value in values) else "symlog"
    on_front = [{"filter": "datum.front"}]
    return {
        **_frame(f"{HEADLINE} against {cost}. On the Pareto front: {'; '.join(names)}", values),
        "title": f"{HEADLINE} against {cost}",
        "encoding": {
            "x": _axis("cost", f"{cost} ({scale})", type=scale),
            "y": _axis("quality", HEADLINE, zero=False, padding=12),
        },
        "layer": [
            {"mark": {"type": "line", "strokeDash": [4, 3]}, "transform": on_front},
            {
                "name": "systems",
                "mark": {"type": "point", "size": 70, "fill": INK, "stroke": INK, "tooltip": True},
                "encoding": {
                    "fillOpacity": {"condition": {"test": "datum.front", "value": 1}, "value": 0},
                    "tooltip": [
                        {"field": "system"},
                        {"field": "quality", "title": HEADLINE},
                        {"field": "cost", "title": cost},
                    ],
                },
            },
            {
                "name": "labels",
                "mark": {"type": "text", "fontSize": 11, "limit": 220},
                "transform": on_front,
                "encoding": {"text": {"field": "system"}},
            },
        ],
    }


def training_curves(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line a training, of the metric that is chosen below the chart."""
    values = [
        {"training": curve_name(row, training), "metric": metric, "step": step, "value": value}
        for row in rows
        for training in row["curves"]
        for metric, points in training["metrics"].items()
        for step, value in points
    ]
    metrics = sorted({value["metric"] for value in values}, key=lambda name: (name != "loss", name))
    return {
        **_frame("Training curves; their first and last values are listed below", values),
        "params": [
            {
                "name": "metric",
                "value": metrics[0],
                "bind": {"input": "select", "options": metrics, "name": "metric "},
            },
            {
                "name": "chosen",
                "select": {"type": "point", "fields": ["training"]},
                "bind": "legend",
            },
        ],
        "transform": [{"filter": "datum.metric == metric"}],
        "mark": {"type": "line", "tooltip": True, "point": {"size": 20}},
        "encoding": {
            "x": _axis("step", "step", zero=False),
            "y": _axis("value", "", zero=False),
            "color": {
                "field": "training",
                "type": "nominal",
                "legend": {"orient": "bottom", "columns": 1, "title": None, "labelLimit": 360},
            },
            "opacity": {"condition": {"param": "chosen", "value": 1}, "value": 0.15},
        },
    }


def curve_name(row: dict[str, Any], training: dict[str, Any]) -> str:
    """A training's name: its row's, and its own where the row stands on several."""
    several = len(row["curves"]) > 1
    return f"{row['system']} ({training['name']})" if several else str(row["system"])


def _frame(description: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "description": description,
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        "data": {"values": values},
    }


def _axis(field: str, title: str, **scale: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title or None, "scale": scale}
