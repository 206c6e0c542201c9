"""The long CSV: one line a system and metric, for machines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from neurosearch.report.table import Table

COLUMNS = (
    "experiment",
    "data",
    "protocol",
    "split",
    "system",
    "metric",
    "mean",
    "ci_low",
    "ci_high",
    "sd_seeds",
    "n_seeds",
    "n_queries",
    "baseline",
    "p_holm",
    "hardware",
    "commit",
)


def write(table: Table, columns: Sequence[str]) -> str:
    """Every metric of every finished row; `columns` only says what readers are shown."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in table.rows:
        for metric, cell in row.cells.items():
            numbers = (cell.mean, cell.low, cell.high, cell.sd_seeds)
            writer.writerow(
                [
                    table.experiment,
                    table.data,
                    table.protocol,
                    table.split,
                    row.system,
                    metric,
                    *(_text(value) for value in numbers),
                    row.seeds,
                    cell.queries or row.queries,
                    table.baseline,
                    _text(cell.p_holm),
                    row.hardware,
                    row.commit,
                ]
            )
    return out.getvalue()


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
