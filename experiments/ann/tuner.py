"""`task=tune` against the whole grid of the same families: is its choice as fast, for how much?

Run: python experiments/ann/tuner.py data=home_depot   (writes results/tuner.<data>.md)

Three targets of recall@10. The grid builds every variant of every family once for all targets, and
tries and times every step of every ladder that reaches a target; its seconds count the builds for
each target anew (`reuse` takes the grid of an earlier run from its table). The tuner starts without
any index. At the end the two choices take turns, and `of the grid's q/s` is the median over blocks.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import numpy as np
import polars as pl
from vectors import RESULTS, job_of, publish, vectors_of

from neurosearch.index import tuning
from neurosearch.index.exact import Exact
from neurosearch.task.tune import Tune, overrides_of

TARGETS = (0.9, 0.95, 0.98)
FINAL = 3  # rounds in which the two choices take turns


def grid(
    products: np.ndarray, exact: Exact, seed: int
) -> tuple[dict[float, tuple[Any, float]], dict[float, float]]:
    """For each target the fastest point as a live index, and the seconds it took to find it."""
    best: dict[float, tuple[Any, float]] = {}
    spent = dict.fromkeys(TARGETS, 0.0)
    for family in tuning.FAMILIES:
        for recipe in tuning.variants(family, *products.shape, seed):
            start = time.perf_counter()
            built = recipe.filled(products)
            building = time.perf_counter() - start
            for target in TARGETS:
                spent[target] += building
            live = recipe.live(built, "grid")
            for step in [step for ladder in tuning.efforts(recipe) for step in ladder]:
                start = time.perf_counter()
                one = tuning.seen(step, live, exact, seed)
                trying = time.perf_counter() - start
                reached = [target for target in TARGETS if one.low >= target]
                searched = step.live(built, "grid")
                start = time.perf_counter()
                p50 = 0.0
                if reached:
                    p50 = tuning.timings([searched], exact.queries, exact.k, seed)[0]["p50 ms"]
                timing = time.perf_counter() - start
                for target in TARGETS:
                    spent[target] += trying + (timing if target in reached else 0.0)
                for target in reached:
                    if target not in best or p50 < best[target][1]:
                        best[target] = searched, p50
            print(family, overrides_of(recipe), {t: round(s) for t, s in spent.items()}, flush=True)
    return best, spent


def main() -> None:
    """Run the grid, then the tuner for each target, and write the table."""
    overrides = [word for word in sys.argv[1:] if word != "reuse"]
    data = next((w.split("=")[1] for w in overrides if w.startswith("data=")), "shop")
    job = job_of(overrides)
    products, queries = vectors_of(job)
    queries = queries[:: max(1, -(-len(queries) // Tune().queries))]
    exact = Exact.of(queries, products, 10)
    if "reuse" in sys.argv:  # the grid of an earlier run, from its table
        earlier = pl.read_csv(RESULTS / f"tuner.{data}.csv").to_dicts()
        spent = {row["target"]: row["grid's seconds"] for row in earlier}
        best = {}
        for row in earlier:
            recipe = job_of([*overrides, *row["grid's choice"].split()]).retriever.index  # type: ignore[attr-defined]
            best[row["target"]] = recipe.live(recipe.filled(products), "grid"), 0.0
    else:
        best, spent = grid(products, exact, 0)
    rows = []
    for target in TARGETS:
        shutil.rmtree(job.runtime.outputs / "artifacts" / "index", ignore_errors=True)
        fresh = job_of(overrides)
        tune = Tune(target=target)
        start = time.perf_counter()
        report = tune.tuned(fresh)
        seconds = time.perf_counter() - start
        chosen, ours = report.chosen, report.live
        theirs = best[target][0]
        ratios, recalls = [], []
        for number in range(FINAL):
            timed = tuning.timings([theirs, ours], queries, 10, number)
            ratios.append(timed[1]["times flat"])  # the grid's choice stands first
        recalls = [
            float(exact.recall(one.nearest(queries, 10)[0]).mean()) for one in (ours, theirs)
        ]
        row = {"target": target, "of the grid's q/s": float(np.median(ratios))}
        row |= {"of the grid's seconds": seconds / spent[target], "seconds": seconds}
        row |= {"grid's seconds": spent[target], "recall": recalls[0], "grid's recall": recalls[1]}
        row |= {"p50 ms": timed[1]["p50 ms"], "grid's p50 ms": timed[0]["p50 ms"]}
        row |= {"chosen": chosen["index"], "grid's choice": overrides_of(theirs.recipe)}
        rows.append(row)
        print(row, flush=True)
    note = f"{len(products):,} products, {len(queries):,} dev queries, one thread; recall@10 whose "
    note += "one-sided 95 % bound reaches the target."
    publish("tuner", data, "The tuner beside the whole grid", rows, note)


if __name__ == "__main__":
    main()
