"""The long CSV: one line a system and metric, for machines."""

from __future__ import annotations

import csv
import io
import json
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
    "gain",
    "ties",
    "precision",
    "chosen",
    "command",
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
                    guarded(table.experiment),
                    guarded(table.data),
                    table.protocol,
                    table.split,
                    guarded(row.system),
                    metric,
                    *(_text(value) for value in numbers),
                    row.seeds,
                    cell.queries or row.queries,
                    guarded(table.baseline),
                    _text(cell.p_holm),
                    row.hardware,
                    row.commit,
                    table.gain_words or table.gain,
                    table.ties,
                    table.precision,
                    json.dumps(row.chosen) if row.chosen else "",
                    guarded(table.command),
                ]
            )
    return out.getvalue()


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def guarded(text: str) -> str:
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
