"""How much of a gain in nDCG@10 is that more of the first ten were judged.

Run: python experiments/best/judgedness.py FOLDER...   (jobs of one table, below outputs/jobs;
     writes results/judgedness.<data>.md)

Of every pair of the table's systems: the difference of nDCG@10 over all queries, and over those in
which both have equally many judged products among their first ten, where finding judged products
can't be the reason. Metrics of seeds are averaged query by query.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.evaluation.statistics import resampled_means
from neurosearch.report.formatting import commits_of
from neurosearch.report.table import make_tables
from neurosearch.task.table import jobs_of

RESULTS = Path(__file__).with_name("results")
COLUMNS = ("nDCG@10", "judged@10")
RESAMPLES = 10_000


def by_query(records: Sequence[dict[str, object]]) -> pl.DataFrame:
    """`query_id` and the metrics, averaged over a row's seeds."""
    parts = [
        pl.read_parquet(str(record["metrics"]), columns=["query_id", *COLUMNS], glob=False)
        for record in records
    ]
    return pl.concat(parts).group_by("query_id").agg(pl.col(COLUMNS).mean()).sort("query_id")


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over queries."""
    (means,) = resampled_means([values[None, :, None]], RESAMPLES, 0)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def main(arguments: Sequence[str]) -> None:
    """Compare all rows with the ones above them."""
    try:
        (table,) = make_tables(jobs_of(arguments, "best"))
    except InputError as error:
        raise SystemExit(f"{', '.join(arguments)}: {error}") from None
    rows = {row.system: by_query(row.records) for row in table.rows if row.records}
    order = sorted(rows, key=lambda name: -float(rows[name]["nDCG@10"].to_numpy().mean()))
    lines = [f"## What judgedness explains: {table.data}", ""]
    names = ("system", "above", "Δ nDCG@10", "Δ judged@10", "queries of equal judged@10")
    lines.append(f"| {' | '.join(names)} | Δ nDCG@10 there | 95 % |")
    lines.append("|:---|:---|---:|---:|---:|---:|---:|")
    for one, other in itertools.combinations(order, 2):
        both = rows[one].join(rows[other], on="query_id", suffix=" of other")
        gap, judged = ((both[c] - both[f"{c} of other"]).to_numpy() for c in COLUMNS)
        equal = np.abs(judged) < 1e-9
        there = "– | –"
        if equal.any():
            low, high = interval(gap[equal])
            there = f"{gap[equal].mean():+.3f} | [{low:+.3f}, {high:+.3f}]"
        cells = f"{gap.mean():+.3f} | {judged.mean():+.3f} | {equal.mean():.0%} | {there}"
        lines.append(f"| {one} | {other} | {cells} |")
    means = {name: rows[name].select(COLUMNS).mean().row(0) for name in order}
    ratio = ", ".join(f"{name} {gain / judged:.2f}" for name, (gain, judged) in means.items())
    lines += ["", f"nDCG@10 over judged@10: {ratio}.  "]
    commits = ", ".join(commits_of(table.rows))
    lines.append(f"Data: {table.data}, {table.split} split. Commit of the jobs: {commits}.")
    RESULTS.mkdir(exist_ok=True)
    text = "\n".join(lines) + "\n"
    (RESULTS / f"judgedness.{table.data}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
