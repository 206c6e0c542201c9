"""How few judgments put ten systems in the right order? Eight designs, drawn again and again.

Run: python experiments/annotation_budget/annotation_budget.py data=home_depot  (writes results/)

The published judgments stand for people: a design chooses pairs of the pool (the systems' first
ten), "people" judge them, and the systems' DCG@10 is estimated. What was never judged is worth
nothing, in the estimates as in the full table. τ: Kendall's, of the estimated order to the full
one; wrong signs: of the 45 differences; coverage: of 95 % intervals of the differences; held out:
error of a system that was not in the pool when it was judged.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.annotation.base import Adaptive, Annotation, Pool
from neurosearch.annotation.committee import Committee
from neurosearch.annotation.depth_pool import DepthPool
from neurosearch.annotation.disagreement import Disagreement
from neurosearch.annotation.estimate import Estimates, estimates, judged
from neurosearch.annotation.hedge import Hedge
from neurosearch.annotation.mtf import MoveToFront
from neurosearch.annotation.uncertainty import Uncertainty
from neurosearch.annotation.uniform import Uniform
from neurosearch.annotation.whole_queries import WholeQueries
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.run import Run
from neurosearch.evaluation.opened import opened
from neurosearch.task.jobs import job_of

SYSTEMS = {
    "BM25": ["retriever=bm25"],
    "BM25, k1 2": ["retriever=bm25", "retriever.k1=2.0", "retriever.b=0.9"],
    "BM25 tuned": ["retriever=bm25_tuned"],
    "BM25 + feedback": ["retriever=feedback"],
    "MiniLM": ["retriever=dense"],
    "MiniLM + feedback": ["retriever=vector_feedback"],
    "hashing": ["retriever=dense", "encoder@retriever.encoder=hashing"],
    "multiphase": ["retriever=multiphase"],
    "hybrid RRF": ["retriever=hybrid"],
    "hybrid convex": ["retriever=hybrid/convex"],
}
DESIGNS: dict[str, Annotation] = {
    "whole queries": WholeQueries(),
    "uniform": Uniform(assisted=False),
    "uniform, assisted": Uniform(),
    "disagreement": Disagreement(assisted=False),
    "disagreement, assisted": Disagreement(),
    "committee, assisted": Committee(),
    "uncertainty, two phases": Uncertainty(),
    "depth pool": DepthPool(),
    "move to front": MoveToFront(),
    "hedge": Hedge(),
}
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
REPEATS, HELD_OUT, K, WANTED = 200, 5, 10, 0.9
RESULTS = Path(__file__).with_name("results")


def gathered(overrides: Sequence[str]) -> tuple[str, dict[str, Run], pl.DataFrame]:
    """The data's name, the systems' runs, and the published gains of 0 to 1."""
    runs: dict[str, Run] = {}
    for name, words in SYSTEMS.items():
        job = job_of([*overrides, *words])
        request = job.evaluation.request(job.processing)
        runs[name] = job.runtime.get(job.retriever.run(job.dataset, request))
        print(name, flush=True)
    data = opened(job.runtime.get(job.dataset))
    graded = job.evaluation.gain.graded(data.judgments(job.evaluation.split))
    return job.data.label(), runs, graded.with_columns(pl.col("gain") / pl.col("gain").max())


def gains_of(pool: Pool, graded: pl.DataFrame) -> np.ndarray:
    """U float64; 0 for what nobody judged."""
    known = pool.pairs.join(
        graded.select("query_id", "product_id", "gain"),
        on=["query_id", "product_id"],
        how="left",
        maintain_order="left",
    )
    return known["gain"].fill_null(0.0).to_numpy()


def drawn(
    design: Annotation, pool: Pool, gains: np.ndarray, budget: int, rng: np.random.Generator
) -> Estimates:
    """One draw and its estimates."""
    plan = judged(design, pool, gains, budget, rng)
    return estimates(pool, gains, plan, design.is_assisted)


def compared(found: Estimates, truth: np.ndarray, told: np.ndarray) -> dict[str, float]:
    """How near the estimates of one draw come; `told`: differences that all judgments can tell."""
    from scipy.stats import kendalltau

    errors, wrong, inside, mistaken = [], 0, 0, 0
    pairs = list(itertools.combinations(range(len(truth)), 2))
    for a, b in pairs:
        gap, error = found.gap(a, b)
        true = truth[b] - truth[a]
        errors.append(gap - true)
        wrong += int(np.sign(gap) != np.sign(true))
        mistaken += int(np.sign(gap) != np.sign(true) and told[a, b])
        inside += int(abs(gap - true) <= 1.96 * error)
    return {
        "tau": float(kendalltau(found.scores, truth)[0]),
        "error": float(np.sqrt(np.mean(np.square(errors)))),
        "wrong signs": wrong / len(pairs),
        "wrong of told": mistaken / max(1, int(told[np.triu_indices(len(truth), 1)].sum())),
        "coverage": inside / len(pairs),
        "labels": float(found.labels),
    }


def told_apart(pool: Pool, gains: np.ndarray) -> np.ndarray:
    """S×S bool: differences that are significant over the queries with all judgments (p < .05)."""
    from scipy.stats import norm

    by_query = np.stack(
        [np.bincount(pool.query, line * gains, minlength=pool.queries) for line in pool.weights]
    )
    gaps = by_query[:, None] - by_query[None]
    error = gaps.std(axis=2, ddof=1) / np.sqrt(pool.queries)
    found: np.ndarray = np.abs(gaps.mean(axis=2)) > norm.isf(0.025) * np.maximum(error, 1e-12)
    return found


def measured(runs: Mapping[str, Run], graded: pl.DataFrame, repeats: int) -> list[dict[str, Any]]:
    """A row for each design and share of the pool."""
    pool = Pool.of(runs, K)
    gains = gains_of(pool, graded)
    truth, told = pool.scores(gains), told_apart(pool, gains)
    rows = []
    for name, design in DESIGNS.items():
        for share in SHARES:
            budget = round(share * len(pool))
            times = 1 if isinstance(design, Adaptive) else repeats
            draws = [
                compared(drawn(design, pool, gains, budget, np.random.default_rng(n)), truth, told)
                for n in range(times)
            ]
            mean = {key: float(np.mean([one[key] for one in draws])) for key in draws[0]}
            good = float(np.mean([one["tau"] >= WANTED for one in draws]))
            row: dict[str, Any] = {"design": name, "share": share, "draws": times, **mean}
            row["tau of 0.9 or more"] = good
            if not design.unbiased:
                row["coverage"] = None
            row["held out"] = held_out(design, runs, graded, share, min(HELD_OUT, times))
            rows.append(row)
        print(name, flush=True)
    return rows


def held_out(
    design: Annotation, runs: Mapping[str, Run], graded: pl.DataFrame, share: float, times: int
) -> float:
    """Error of a system's DCG@10 where it was not in the pool: root of the mean square."""
    errors = []
    for name in runs:
        others = Pool.of({key: run for key, run in runs.items() if key != name}, K)
        whole = Pool.of({"own": runs[name], "again": runs[name]}, K)
        truth = whole.scores(gains_of(whole, graded))[0]
        own = others.pairs.join(
            whole.pairs.with_columns(weight=pl.Series(whole.weights[0])),
            on=["query_id", "product_id"],
            how="left",
            maintain_order="left",
        )
        weights = np.vstack([others.weights, own["weight"].fill_null(0.0).to_numpy()])
        asked = Pool(others.pairs, others.query, weights, (*others.systems, name), others.queries)
        gains = gains_of(others, graded)
        for number in range(times):
            rng = np.random.default_rng(number)
            plan = judged(design, others, gains, round(share * len(others)), rng)
            found = estimates(asked, gains, plan, design.is_assisted)
            errors.append(found.scores[-1] - truth)
    return float(np.sqrt(np.mean(np.square(errors))))


def draw(frame: pl.DataFrame, label: str) -> None:
    """results/<data>.svg: order, error and held-out error against the share that is judged."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    shown = (("tau", "Kendall's τ"), ("error", "error of differences"), ("held out", "held out"))
    for name in DESIGNS:
        some = frame.filter(pl.col("design") == name)
        for axis, (column, title) in zip(axes, shown, strict=True):
            style = "-" if DESIGNS[name].unbiased else "--"
            axis.plot(some["share"], some[column], style, label=name, linewidth=1.2)
            axis.set(xlabel="share of the pool judged", ylabel=title, xscale="log")
    axes[0].axhline(WANTED, color="grey", linewidth=0.5)
    for axis in axes[1:]:
        axis.set_yscale("log")
    axes[2].legend(fontsize=6)
    figure.suptitle(f"{label}: ten systems, judgments of some of the pool", fontsize=9)
    figure.savefig(RESULTS / f"{label}.svg", metadata={"Date": None})


def main(arguments: Sequence[str]) -> None:
    """Run the systems, draw, and write the table."""
    numbers = [int(word) for word in arguments if word.isdigit()]
    repeats = numbers[0] if numbers else REPEATS
    overrides = [word for word in arguments if not word.isdigit()]
    start = time.perf_counter()
    label, runs, graded = gathered(overrides)
    frame = pl.DataFrame(measured(runs, graded, repeats), infer_schema_length=None)
    pool = Pool.of(runs, K)
    known = pool.pairs.join(graded, on=["query_id", "product_id"], how="semi").height
    RESULTS.mkdir(exist_ok=True)
    frame.write_csv(RESULTS / f"{label}.csv", float_precision=5)
    draw(frame, label)
    text = f"## Judging on a budget: {label}\n\n"
    text += "| design | share for τ ≥ .9 | τ at 10 % | τ at 30 % | draws with τ ≥ .9 at 30 % | "
    text += "error at 10 % | wrong signs at 10 % | of those told apart, at 10 % | at 30 % | "
    text += "coverage at 10 % | held out at 30 % |\n"
    text += "|:---|" + "---:|" * 10 + "\n"
    for name in DESIGNS:
        some = frame.filter(pl.col("design") == name)
        enough = some.filter(pl.col("tau") >= WANTED)
        # A share from which on the order stays right.
        last = some.filter(pl.col("tau") < WANTED)["share"].max()
        shares = [s for s in enough["share"] if last is None or s > float(str(last))]
        ten, thirty = (some.filter(pl.col("share") == s).row(0, named=True) for s in (0.1, 0.3))
        cells = [
            f"{min(shares):.0%}" if shares else "more than 50 %",
            f"{ten['tau']:.2f}",
            f"{thirty['tau']:.2f}",
            f"{thirty['tau of 0.9 or more']:.0%}",
            f"{ten['error']:.4f}",
            f"{ten['wrong signs']:.1%}",
            f"{ten['wrong of told']:.1%}",
            f"{thirty['wrong of told']:.1%}",
            "none" if ten["coverage"] is None else f"{ten['coverage']:.1%}",
            f"{thirty['held out']:.4f}",
        ]
        text += f"| {name} | {' | '.join(cells)} |\n"
    simulated = "SIMULATED DATA. " if label.startswith("shop") else ""
    text += (
        f"\n![]({label}.svg)\n\n{simulated}{len(runs)} systems, {pool.queries} queries, pool of "
    )
    text += (
        f"{len(pool):,} pairs (first {K}), of which {known:,} were judged; the others are worth "
    )
    told = told_apart(pool, gains_of(pool, graded))[np.triu_indices(len(runs), 1)]
    text += (
        f"nothing. Told apart: {told.sum()} of {len(told)} differences are significant with all "
    )
    text += f"judgments (p < .05, not corrected). DCG@{K}, gains of 0 to 1. "
    text += f"{repeats} draws of each design that draws. "
    text += f"Hardware: {hardware()}, {time.perf_counter() - start:.0f} s. Commit: {git_commit()}. "
    text += "Command: python experiments/annotation_budget/annotation_budget.py "
    text += f"{' '.join(arguments)}\n"
    (RESULTS / f"{label}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
