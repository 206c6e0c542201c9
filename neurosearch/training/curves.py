"""Curves of a training: curves.csv, a row a step, a column a metric."""

from __future__ import annotations

import csv
from pathlib import Path


def curves_of(path: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) points by metric, of a training's curves.csv; none where there is no file."""
    points: dict[str, list[tuple[float, float]]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as handle:
            for line in csv.DictReader(handle):
                for metric, value in line.items():
                    if value and metric not in ("step", "epoch"):
                        points.setdefault(metric, []).append((float(line["step"]), float(value)))
    return points
