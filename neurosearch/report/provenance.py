"""How each row was made: what its config says otherwise than the baseline's, and its trainings.

Training curves, tokenizers' health and re-rankers' feature importances are read from the artifacts
that the row's jobs stand on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import MANIFEST
from neurosearch.report.aggregation import Row
from neurosearch.report.formatting import number
from neurosearch.report.per_query import folders_of
from neurosearch.report.table import Table
from neurosearch.training.curves import curves_of

POINTS = 200  # of a curve, at most
ABSENT = "(no such key)"
UNSAID = ("paths", "hydra", "runtime", "tracking", "report", "name", "task", "experiment")


def making(table: Table) -> list[dict[str, Any]]:
    """For each row that was made: its differences, curves, health and importances."""
    made = [row for row in table.rows if row.records]
    first = made[0] if made else None  # stands in for a baseline that isn't in the table
    reference = next((row for row in made if row.system == table.baseline), first)
    settings = _settings(reference) if reference else {}
    return [
        {
            "system": row.system,
            "seeds": row.seeds,
            "hardware": row.hardware,
            "commit": row.commit,
            "models": row.records[0].get("models") or {},
            "differences": _differences(_settings(row), settings) if row is not reference else [],
            "is_baseline": row is reference,
            "curves": [
                curve for path in _files(row, "curves.csv") if (curve := thinned_curve(path))
            ],
            "health": [_health(path) for path in _files(row, "health.json")],
            "importance": _importance(row),
        }
        for row in made
    ]


def _settings(row: Row) -> dict[str, str]:
    """The config of the row's first job, keys joined by dots."""
    from omegaconf import OmegaConf

    path = Path(row.records[0].get("folder", "")) / "config.yaml"
    if not path.is_file():
        return {}
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    return dict(_flat({k: v for k, v in config.items() if k not in UNSAID}, ""))


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        blank = isinstance(node, str) and not node.strip()
        yield prefix, repr(node) if blank else str(node)


def _differences(config: dict[str, str], reference: dict[str, str]) -> list[list[str]]:
    """Key, the baseline's value, its own."""
    keys = [*reference, *(key for key in config if key not in reference)]
    pairs = [[key, reference.get(key, ABSENT), config.get(key, ABSENT)] for key in keys]
    return [pair for pair in pairs if pair[1] != pair[2]]


def _files(row: Row, name: str) -> list[Path]:
    in_job = Path(row.records[0].get("folder", "")) / name
    paths = [folder / name for folder in folders_of(row)]
    if name == "health.json":  # a job of task=tokenize keeps it beside its record
        paths.append(in_job)
    return [path for path in paths if path.is_file()]


def thinned_curve(path: Path) -> dict[str, Any]:
    """A training's curve, thinned; the last point stays.

    Args:
        path: curves.csv.

    Returns:
        `name` and `metrics`: (step, value) points by metric; empty without points.
    """
    thinned = {
        name: [*points[: -1 : -(-len(points) // POINTS)], points[-1]]
        for name, points in curves_of(path).items()
    }
    name = f"{path.parent.parent.name} {path.parent.name[:8]}"
    return {"name": name, "metrics": thinned} if thinned else {}


def _health(path: Path) -> dict[str, Any]:
    report = json.loads(path.read_text(encoding="utf-8"))
    message = (report.get("summary") or {}).items()
    summary = {key: number(key, value) for key, value in message if value is not None}
    return {"verdict": report["verdict"], "reasons": report["reasons"], "summary": summary}


def _importance(row: Row) -> list[list[Any]]:
    """Feature and share of the trees' gain, of the re-ranker that learnt last."""
    shares: dict[str, float] = {}
    for folder in folders_of(row):
        manifest = folder / MANIFEST
        if folder.parent.name == "lambdamart" and manifest.is_file():
            shares = json.loads(manifest.read_text(encoding="utf-8"))["details"]["importance"]
    return [[name, share] for name, share in shares.items()]
