"""What a page shows beneath its table, read from the jobs' artifacts: queries, lists, slices.

Everything is of the headline metric. Numbers of a system are means over its seeds; the lists are
those of its first job.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.artifact import MANIFEST
from neurosearch.core.types import Dataset
from neurosearch.evaluation.base import JUDGED
from neurosearch.report.aggregation import Row
from neurosearch.report.slices import slices_of
from neurosearch.report.table import Table

SHOWN = 10  # products of a list
HEADLINE = "nDCG@10"


def evidence(table: Table, queries: int) -> dict[str, Any]:
    """Scores of every query and system, and of the `queries` that systems differ on most, lists.

    Empty where artifacts that it is read from are gone, or rows are no means over queries.
    """
    rows = [row for row in table.rows if HEADLINE in row.cells and _runs(row)]
    if not rows or not (source := _dataset(rows[0])):
        return {}
    queries_frame = source.queries(table.split).frame
    judged = pl.concat(_judged(record) for record in rows[0].records).unique(maintain_order=True)
    scores = np.full((len(rows), queries_frame.height), np.nan)
    for number, row in enumerate(rows):
        parts = pl.concat(
            pl.read_parquet(record["metrics"], columns=["query_id", HEADLINE], glob=False)
            for record in row.records
        )
        means = parts.group_by("query_id").agg(pl.col(HEADLINE).mean())
        placed = queries_frame.join(means, on="query_id", how="left", maintain_order="left")
        scores[number] = placed[HEADLINE].fill_null(np.nan).to_numpy()
    evaluated = np.isfinite(scores).any(axis=0)
    queries_frame, scores = queries_frame.filter(pl.Series(evaluated)), scores[:, evaluated]
    spread = np.nanmax(scores, axis=0) - np.nanmin(scores, axis=0)
    listed = np.sort(np.argsort(-spread, kind="stable")[:queries])
    reads = [_reads(row, queries_frame) for row in rows]
    return {
        "metric": HEADLINE,
        "systems": [row.system for row in rows],
        "queries": queries_frame["text"].to_list(),
        "scores": [[_rounded(value) for value in row_scores] for row_scores in scores],
        "slices": [*slices_of(queries_frame, source, judged), *_changed(rows, reads)],
        "reads": [[texts[number] for number in listed] for texts in reads],
        "listed": listed.tolist(),
        **_lists(rows, queries_frame[listed], source, judged),
    }


def _reads(row: Row, queries: pl.DataFrame) -> list[str]:
    """How a system reads each query, '' where it is as it was typed."""
    changes = _changes(row)
    if changes is None:
        return [""] * queries.height
    there = pl.col("steps") != ""
    added = pl.when(pl.col("terms") != "").then(" + " + pl.col("terms")).otherwise(pl.lit(""))
    shown = pl.when(there).then(pl.col("read") + added).otherwise(pl.lit(""))
    texts = changes.select("query_id", shown=shown)
    joined = queries.join(texts, on="query_id", how="left", maintain_order="left")
    return joined["shown"].fill_null("").to_list()


def _changed(rows: Sequence[Row], reads: Sequence[list[str]]) -> list[dict[str, Any]]:
    """A slice for each system that processes queries: those that it changes, and the others."""
    slices = []
    for row, texts in zip(rows, reads, strict=True):
        if any(texts):
            of = [int(not text) for text in texts]
            name = f"queries that {row.system} changes"
            slices.append({"name": name, "values": ["changed", "as typed"], "of": of})
    return slices


def _changes(row: Row) -> pl.DataFrame | None:
    path = row.records[0].get("changes")
    return pl.read_parquet(path, glob=False) if path and Path(path).is_file() else None


def _judged(record: dict[str, Any]) -> pl.DataFrame:
    """The judgments that a job was evaluated with, and what counts as relevant."""
    return pl.read_parquet(Path(record["metrics"]).with_name(JUDGED), glob=False)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def root_of(row: Row) -> Path:
    """The artifacts' folder, of a row of means over queries."""
    return Path(row.records[0]["metrics"]).parents[2]


def folders_of(row: Row) -> list[Path]:
    """Of the artifacts that the row's first job names; none for numbers that are no such means."""
    first = row.records[0]
    if not first["metrics"]:
        return []
    return [root_of(row) / e["kind"] / e["fingerprint"] for e in first.get("artifacts", ())]


def _runs(row: Row) -> bool:
    places = [Path(record["metrics"] or "") for record in row.records]
    there = (place.is_file() and place.with_name(JUDGED).is_file() for place in places)
    return bool(places) and all(there)


def _dataset(row: Row) -> Dataset | None:
    for folder in folders_of(row):
        if folder.parent.name == "data" and (folder / MANIFEST).is_file():
            return Dataset(folder, row.records[0]["data"])
    return None


def _lists(
    rows: Sequence[Row], queries: pl.DataFrame, source: Dataset, judged: pl.DataFrame
) -> dict[str, Any]:
    """`lists`: by system, by listed query, numbers of titles; `grades`: label and relevance."""
    tops = []
    for row in rows:
        path = root_of(row) / "run" / row.records[0]["run"] / "run.parquet"
        if not path.is_file():
            return {"lists": [], "titles": [], "grades": []}
        run = pl.read_parquet(path, columns=["query_id", "product_id", "rank"], glob=False)
        tops.append(run.filter(pl.col("rank") <= SHOWN).sort("rank"))
    wanted = queries.select("query_id")
    tops = [top.join(wanted, on="query_id", how="semi", maintain_order="left") for top in tops]
    shown = pl.concat([top.select("product_id") for top in tops]).unique().sort("product_id")
    titles = pl.read_parquet(source.catalogue.path, columns=["product_id", "title"], glob=False)
    named = shown.join(titles, on="product_id", how="left", maintain_order="left")
    numbers = named.select("product_id").with_row_index("number")
    lists = []
    for top in tops:
        numbered = top.join(numbers, on="product_id", maintain_order="left")
        grouped = numbered.group_by("query_id", maintain_order=True).agg("number")
        placed = wanted.join(grouped, on="query_id", how="left", maintain_order="left")
        lists.append([listed or [] for listed in placed["number"].to_list()])
    graded = judged.join(numbers, on="product_id")
    by_query = graded.group_by("query_id", maintain_order=True).agg("number", "label", "relevant")
    placed = wanted.join(by_query, on="query_id", how="left", maintain_order="left")
    grades = [
        {str(n): [label, good] for n, label, good in zip(*parts, strict=True)} if parts[0] else {}
        for parts in placed.select("number", "label", "relevant").iter_rows()
    ]
    return {
        "lists": lists,
        "titles": [(title or "")[:90] for title in named["title"].to_list()],
        "grades": grades,
    }
