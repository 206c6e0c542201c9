"""How far the order of systems survives the loss of judgments, by metric.

Run: python experiments/holes/robustness.py   (writes results/robustness.<data>.md and .csv)
     with overrides of the data: … data=chorus

Judgments are dropped at random (10 to 70 %, several draws), and, as a pool of vectors would lack
them, those of BM25's first 50 products that no system without words has among its first 50.
Kendall's tau of the systems' means to those with all judgments, and how often the best system is
another one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.evaluation.holes import BPREF, FILLED, RBP, dropped, hole_metrics
from neurosearch.evaluation.opened import opened
from neurosearch.task.base import Job
from neurosearch.task.jobs import job_of

SYSTEMS = {
    "BM25": ["retriever=bm25"],
    "BM25 tuned": ["retriever=bm25_tuned"],
    "BM25 + feedback": ["retriever=feedback"],
    "MiniLM": ["retriever=dense"],
    "hybrid RRF": ["retriever=hybrid"],
    "hybrid convex": ["retriever=hybrid/convex"],
    "multiphase": ["retriever=multiphase"],
    "codes": ["retriever=codes"],
}
WITHOUT_WORDS = ("MiniLM", "multiphase", "codes")  # systems that look up no words
SHARES, DRAWS, POOL = (0.1, 0.3, 0.5, 0.7), 50, 50
METRICS = ("nDCG@10", "condensed nDCG@10", BPREF, RBP, FILLED)
PAIR = ["query_id", "product_id"]
RESULTS = Path(__file__).with_name("results")


def ndcg(run: pl.DataFrame, graded: pl.DataFrame) -> pl.DataFrame:
    """`query_id`, `value`: nDCG@10 of every judged query."""
    best = graded.sort("gain", descending=True)
    best = best.with_columns(rank=pl.int_range(1, pl.len() + 1).over("query_id"))
    found = run.join(graded, on=PAIR, how="inner")
    sums = []
    for frame in (found, best):
        first = frame.filter(pl.col("rank") <= 10)
        worth = (pl.col("gain") / (pl.col("rank") + 1).log(2)).sum()
        sums.append(first.group_by("query_id").agg(dcg=worth))
    both = sums[1].rename({"dcg": "ideal"}).join(sums[0], on="query_id", how="left")
    value = pl.when(pl.col("ideal") > 0).then(pl.col("dcg").fill_null(0) / pl.col("ideal"))
    return both.select("query_id", value=value.otherwise(0.0))


def means(run: pl.DataFrame, graded: pl.DataFrame) -> list[float]:
    """The metrics of a run, in the order of METRICS."""
    condensed = run.join(graded.select(PAIR), on=PAIR, how="semi", maintain_order="left")
    condensed = condensed.with_columns(rank=pl.int_range(1, pl.len() + 1).over("query_id"))
    # A query without a list has found nothing; one without a relevant product has no bpref.
    asked = graded.group_by("query_id").agg(has=pl.col("relevant").any())
    holes = asked.join(hole_metrics(run, graded, 0.8), on="query_id", how="left")
    bpref = holes.filter(pl.col("has"))[BPREF].fill_null(0.0).to_numpy().mean()
    own = [bpref, *(holes[name].fill_null(0.0).to_numpy().mean() for name in (RBP, FILLED))]
    lists = [ndcg(frame, graded)["value"].to_numpy().mean() for frame in (run, condensed)]
    return [float(value) for value in (*lists, *own)]


def compared(table: np.ndarray, whole: np.ndarray) -> list[dict[str, Any]]:
    """Of each metric tau to the whole judgments, and whether the best system is another one."""
    from scipy.stats import kendalltau

    return [
        {
            "metric": name,
            "tau": float(kendalltau(whole[:, m], table[:, m])[0]),
            "best changed": int(whole[:, m].argmax() != table[:, m].argmax()),
        }
        for m, name in enumerate(METRICS)
    ]


def main(arguments: Sequence[str]) -> None:
    """Run the systems, drop judgments, and write both tables."""
    start = time.perf_counter()
    runs: dict[str, pl.DataFrame] = {}
    for name, own in SYSTEMS.items():
        job = job_of([*arguments, *own])
        request = job.evaluation.request(job.processing)
        run = job.runtime.get(job.retriever.run(job.dataset, request)).frame
        runs[name] = run.select(*PAIR, "rank").sort("query_id", "rank")
    data = opened(job.runtime.get(job.dataset))
    graded = job.evaluation.gain.graded(data.judgments("test"))
    rng = np.random.default_rng(0)
    whole = np.array([means(run, graded) for run in runs.values()])
    rows = []
    for share in SHARES:
        for _ in range(DRAWS):
            left = dropped(graded, share, rng)
            table = np.array([means(run, left) for run in runs.values()])
            rows += [{"dropped": f"{share:.0%} at random", **r} for r in compared(table, whole)]
        print(f"{share:.0%}", flush=True)
    first = {name: run.filter(pl.col("rank") <= POOL).select(PAIR) for name, run in runs.items()}
    others = pl.concat([first[name] for name in WITHOUT_WORDS if name in first])
    alone = first["BM25"].join(others, on=PAIR, how="anti")
    left = graded.join(alone, on=PAIR, how="anti", maintain_order="left")
    table = np.array([means(run, left) for run in runs.values()])
    label = f"what words alone find ({1 - left.height / graded.height:.0%})"
    rows += [{"dropped": label, **r} for r in compared(table, whole)]
    frame = pl.DataFrame(rows)
    written(frame, whole, list(runs), job, arguments, time.perf_counter() - start)


def written(
    frame: pl.DataFrame,
    whole: np.ndarray,
    systems: Sequence[str],
    job: Job,
    arguments: Sequence[str],
    seconds: float,
) -> None:
    """results/robustness.<data>.md and .csv."""
    name = job.data.label()
    summary = frame.group_by("dropped", "metric", maintain_order=True).agg(
        pl.len().alias("draws"),
        pl.col("tau").mean(),
        pl.col("tau").min().alias("least tau"),
        (100 * pl.col("best changed").mean()).alias("best changed %"),
    )
    RESULTS.mkdir(exist_ok=True)
    summary.write_csv(RESULTS / f"robustness.{name}.csv", float_precision=4)
    lines = [f"## Order of systems without some judgments: {name}", ""]
    lines += [f"| system | {' | '.join(METRICS)} |", "|:---|" + "---:|" * len(METRICS)]
    for system, values in zip(systems, whole, strict=True):
        lines.append(f"| {system} | {' | '.join(f'{value:.3f}' for value in values)} |")
    lines += ["", "| judgments dropped | metric | draws | tau | least tau | best changed % |"]
    lines.append("|:---|:---|---:|---:|---:|---:|")
    for row in summary.iter_rows():
        lines.append(
            f"| {row[0]} | {row[1]} | {row[2]} | {row[3]:.2f} | {row[4]:.2f} | {row[5]:.0f} |"
        )
    note = f"Data: {name}, test split; {len(systems)} systems, lists of {job.evaluation.depth}. "
    note += "Tau: Kendall's, to the order with all judgments. bpref, over queries that have a "
    note += f"relevant product. Hardware: {hardware()}, {seconds:.0f} s. Commit: {git_commit()}. "
    note += f"Command: python experiments/holes/robustness.py {' '.join(arguments)}"
    text = "\n".join([*lines, "", note]) + "\n"
    (RESULTS / f"robustness.{name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
