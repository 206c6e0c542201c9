"""The table in LaTeX with booktabs: best in bold, second underlined, daggers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from neurosearch.report.aggregation import Row
from neurosearch.report.formatting import interval, mark, note, places, shown, value
from neurosearch.report.table import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"\textsuperscript{\dag}",
    "‡": r"\textsuperscript{\ddag}",
    "·": r"\textperiodcentered{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def write(table: Table, columns: Sequence[str]) -> str:
    """A `table` environment; needs booktabs."""
    names = shown(table, columns)
    ranks = {name: places(table, name) for name in names}
    headed = any(interval(row, names[0]) for row in table.rows if names and names[0] in row.cells)
    header = [*names[:1], *(["95 %"] if headed else []), *names[1:]]
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * len(header) + "}",
        r"\toprule",
        " & ".join(["System", *map(escape, header)]) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        if row.failed:
            cells = [rf"\multicolumn{{{len(header)}}}{{l}}{{{escape(row.failed)}}}"]
        else:
            cells = [_cell(row, name, ranks[name]) for name in names]
            if headed:
                cells.insert(1, interval(row, names[0]) if names[0] in row.cells else "")
        lines.append(" & ".join([escape(row.caption), *cells]) + r" \\")
    caption = escape(" ".join(note(table)))
    label = re.sub(r"[^A-Za-z0-9.:-]+", "-", f"{table.experiment}-{table.stem}")
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text with LaTeX's special characters made printable."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _cell(row: Row, metric: str, places: tuple[set[str], set[str]]) -> str:
    if metric not in row.cells:
        return ""
    text = escape(value(row, metric))
    if row.system in places[0]:
        text = rf"\textbf{{{text}}}"
    elif row.system in places[1]:
        text = rf"\underline{{{text}}}"
    return text + escape(mark(row, metric))
