"""Position bias by every estimator, beside the planted one.

Run: python experiments/clicks/position_bias.py   (writes results/position_bias.md, .csv and .svg)
     with overrides of the data: … data=home_depot

SIMULATED users look at the judged products of train queries, which a noisy BM25 orders. `error`:
root mean squared error of the chances that ranks are looked at, relative to the first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.errors import InputError
from neurosearch.core.machine import git_commit, hardware
from neurosearch.implicit.base import word_features
from neurosearch.logs.base import Logs
from neurosearch.propensity.base import Propensity
from neurosearch.propensity.dla import DLA
from neurosearch.propensity.em import EM
from neurosearch.propensity.harvest import Harvest
from neurosearch.propensity.random import Random
from neurosearch.propensity.regression_em import RegressionEM
from neurosearch.task.base import build
from neurosearch.task.jobs import job_of

METHODS: dict[str, Propensity] = {
    "random lists (5 %)": Random(lists=20),
    "harvesting": Harvest(overlap=5),
    "EM": EM(overlap=5),
    "regression EM": RegressionEM(),
    "dual learning": DLA(overlap=5),
}
USERS = {
    "position": ["logs.users.decay=0.7"],
    "no bias": ["logs.users.decay=0.0"],
    "trust": ["users@logs.users=trust"],
}
LISTS, RANKS = (2_000, 20_000, 100_000), 10
RESULTS = Path(__file__).with_name("results")


def examined(overrides: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray | None]]:
    """The planted chances, and those that each method finds (None: it can't say)."""
    job = job_of(overrides)
    logs: Logs = build(job.config, "logs")
    data = job.runtime.get(job.dataset)
    logged = job.runtime.get(logs.log(job.dataset, "train")).arrays(RANKS)
    features = word_features(data, "train", logged.pairs)
    rates = logged.log.clicks.sum(axis=0) / np.maximum(logged.log.shown.sum(axis=0), 1)
    found: dict[str, np.ndarray | None] = {"clicks as they are": rates / rates[0]}
    for name, method in METHODS.items():
        try:
            found[name] = method.examination(logged, lambda: features)
        except InputError as error:
            print(f"{name}: {error}")
            found[name] = None
    planted = np.arange(1, RANKS + 1.0) ** -(0.0 if "logs.users.decay=0.0" in overrides else 0.7)
    return planted, found


def draw(frame: pl.DataFrame) -> None:
    """results/position_bias.svg: chances by rank, with the largest log."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(USERS), figsize=(12, 3.8), layout="constrained")
    for axis, users in zip(axes, USERS, strict=True):
        some = frame.filter((pl.col("users") == users) & (pl.col("lists") == LISTS[-1]))
        for row in some.iter_rows(named=True):
            if row["chances"] is not None:
                axis.plot(range(1, RANKS + 1), row["chances"], label=row["by"], linewidth=1.2)
        planted = some.row(0, named=True)["planted"]
        axis.plot(range(1, RANKS + 1), planted, "k--", label="planted", linewidth=1.2)
        axis.set(xlabel="rank", title=users, ylim=(0, 1.6))
    axes[0].legend(fontsize=7)
    figure.suptitle(f"SIMULATED USERS, {LISTS[-1]:,} lists", fontsize=9)
    figure.savefig(RESULTS / "position_bias.svg", metadata={"Date": None})


def main(arguments: Sequence[str]) -> None:
    """Estimate everything and write the table."""
    rows: list[dict[str, Any]] = []
    for users, words in USERS.items():
        for lists in LISTS:
            log = ["logs=simulated", f"logs.lists={lists}", "logs.shuffled=0.05", *words]
            try:
                planted, found = examined(["data.n_queries=2000", *log, *arguments])
            except InputError as error:
                raise SystemExit(f"error: {error}") from None
            for name, chances in found.items():
                row: dict[str, Any] = {"users": users, "lists": lists, "by": name}
                wrong = None if chances is None else chances - planted
                row["error"] = None if wrong is None else float(np.sqrt(np.mean(wrong**2)))
                row["chances"] = None if chances is None else [float(x) for x in chances]
                row["planted"] = [float(x) for x in planted]
                rows.append(row)
            print(users, lists, flush=True)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    RESULTS.mkdir(exist_ok=True)
    flat = frame.explode("chances", "planted", empty_as_null=True)
    flat.write_csv(RESULTS / "position_bias.csv", float_precision=5)
    draw(frame)
    names = list(dict.fromkeys(frame["by"]))
    text = "## Position bias: error of the chance that a rank is looked at\n\n"
    text += f"| users | lists | {' | '.join(names)} |\n|:---|{'---:|' * (len(names) + 1)}\n"
    for users in USERS:
        for lists in LISTS:
            some = frame.filter((pl.col("users") == users) & (pl.col("lists") == lists))
            errors = dict(some.select("by", "error").iter_rows())
            cells = ["can't say" if errors[n] is None else f"{errors[n]:.3f}" for n in names]
            text += f"| {users} | {lists:,} | {' | '.join(cells)} |\n"
    text += (
        "\n![](position_bias.svg)\n\nSIMULATED USERS AND DATA. Planted: rank^-0.7, or 1 for all "
    )
    text += (
        "ranks (no bias). Trusting users also click on what stands high for its place, which no "
    )
    text += f"method here models. Hardware: {hardware()}. Commit: {git_commit()}. Command: python "
    text += f"experiments/clicks/position_bias.py {' '.join(arguments)}\n"
    (RESULTS / "position_bias.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
