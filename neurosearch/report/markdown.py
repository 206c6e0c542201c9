"""The table in GitHub's Markdown: best in bold, second in italics, daggers for significance."""

from __future__ import annotations

from collections.abc import Sequence

from neurosearch.report.aggregation import Row
from neurosearch.report.formatting import interval, mark, note, places, shown, value
from neurosearch.report.table import Table


def write(table: Table, columns: Sequence[str]) -> str:
    """A heading, the table with the headline's interval, and the note."""
    names = shown(table, columns)
    ranks = {name: places(table, name) for name in names}
    headed = any(interval(row, names[0]) for row in table.rows if names and names[0] in row.cells)
    header = ["system", *names[:1], *(["95 %"] if headed else []), *names[1:]]
    lines = [
        f"## {table.title}",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "|".join([":---", *["---:"] * (len(header) - 1)]) + "|",
    ]
    for row in table.rows:
        if row.failed:
            cells = [row.failed.replace("|", "/").replace("\n", " ")]
            cells += [""] * (len(header) - 2)
        else:
            cells = [_cell(row, name, ranks[name]) for name in names]
            if headed:
                cells.insert(1, interval(row, names[0]) if names[0] in row.cells else "")
        lines.append("| " + " | ".join([row.caption, *cells]) + " |")
    return "\n".join([*lines, "", *(line + "  " for line in note(table))]) + "\n"


def _cell(row: Row, metric: str, places: tuple[set[str], set[str]]) -> str:
    if metric not in row.cells:
        return ""
    text = value(row, metric) + mark(row, metric)
    if row.system in places[0]:
        return f"**{text}**"
    return f"_{text}_" if row.system in places[1] else text
