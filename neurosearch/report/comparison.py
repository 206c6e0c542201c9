"""What `neurosearch.compare` returns: a table in several forms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from neurosearch.report.table import Table


class Comparison:
    """A finished comparison. `print` shows the table; notebooks show it as HTML.

    Attributes:
        table: rows, cells and statistics (`report.table.Table`).
        columns: metrics that the readable forms show; `frame` has all of them.
    """

    def __init__(self, table: Table, columns: Sequence[str], folder: Path) -> None:
        self.table, self.columns, self._folder = table, tuple(columns), folder

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row per system and metric: mean, interval, seeds, queries, Holm-corrected p."""
        import polars as pl

        rows = [
            {
                "system": row.system,
                "metric": metric,
                "mean": cell.mean,
                "ci_low": cell.low,
                "ci_high": cell.high,
                "sd_seeds": cell.sd_seeds,
                "seeds": row.seeds,
                "queries": cell.queries or row.queries,
                "p_holm": cell.p_holm,
            }
            for row in self.table.rows
            for metric, cell in row.cells.items()
        ]
        return pl.DataFrame(rows).fill_nan(None)

    def to_markdown(self) -> str:
        """The table as GitHub's Markdown, with its note.

        Returns:
            The table and its note.
        """
        from neurosearch.report import markdown

        return markdown.write(self.table, self.columns)

    def to_latex(self) -> str:
        """The table for booktabs.

        Returns:
            A `tabular`, with intervals.
        """
        from neurosearch.report import latex

        return latex.write(self.table, self.columns)

    def page(self, path: str | Path | None = None) -> Path:
        """Write the self-contained HTML page; returns its path.

        Args:
            path: of the file; None for one beside the jobs' records.

        Returns:
            The path of the page.
        """
        from neurosearch.core.store import write_whole
        from neurosearch.report import html

        target = self._folder / f"{self.table.stem}.html" if path is None else Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, html.write(self.table, self.columns).encode())
        return target

    def __str__(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        from markupsafe import escape

        from neurosearch.report.formatting import interval, mark, note, shown, value

        names = shown(self.table, self.columns)
        head = "".join(f"<th>{escape(name)}</th>" for name in ("system", *names))
        lines = []
        for row in self.table.rows:
            cells = [
                f'<td title="{escape(interval(row, name))}">'
                f"{escape(value(row, name) + mark(row, name))}</td>"
                if name in row.cells
                else "<td></td>"
                for name in names
            ]
            lines.append(f"<tr><td>{escape(row.caption)}</td>{''.join(cells)}</tr>")
        notes = "<br>".join(str(escape(line)) for line in note(self.table))
        body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        return f"{body}<p><small>{notes}</small></p>"
