"""How much of a profile's gain is the person's? The same searches, with other people's histories.

Run: python experiments/personalised/taste.py   (writes results/taste.md and .csv)
     with a number of shoppers, and overrides: … 6000 retriever.depth=50

SIMULATED shoppers with tastes of strength 0, 1 and 2. Every profile is trained and evaluated
twice: with everybody's own history, and with that of another shopper with as many purchases. Both
may gain over the query alone, since purchases teach what people buy; the difference of the two is
what was learnt of persons. `hurt`: of the searches with a history, those whose nDCG@10 is lower
than without a profile; `new users`: the largest change of a search without a history.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.task.base import Job

PROFILES = ("recent_mean", "attention", "item2vec", "vsknn", "sasrec", "zam", "tem")
TASTES, USERS = (0.0, 1.0, 2.0), 6000
RESULTS = Path(__file__).with_name("results")


def measured(overrides: Sequence[str]) -> tuple[str, pl.DataFrame]:
    """A system's label, and nDCG@10 of each test search with the length of its history."""
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=["retriever=personalised", *overrides])
    job = Job.compose(config, list(overrides), 0, Path(tempfile.mkdtemp()))
    metrics = job.runtime.get(job.evaluation.metrics(job.retriever, job.dataset, job.processing))
    queries = job.runtime.get(job.dataset).queries("test").frame
    past = queries.select("query_id", past=pl.col("history").list.len())
    found = past.join(metrics.select("query_id", "nDCG@10"), on="query_id", how="left")
    return job.retriever.profile.label(), found.with_columns(pl.col("nDCG@10").fill_null(0.0))  # type: ignore[attr-defined]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The mean, and half of its 95 % interval."""
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()), 1.96 * error


def main(arguments: Sequence[str]) -> None:
    """Run everything and write the table."""
    numbers = [int(word) for word in arguments if word.isdigit()]
    users = numbers[0] if numbers else USERS
    more = [word for word in arguments if not word.isdigit()]
    start = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for taste in TASTES:
        data = ["data=shoppers", f"data.n_users={users}", f"data.taste={taste}", *more]
        _, base = measured([*data, "profile@retriever.profile=none"])
        for profile in PROFILES:
            chosen = f"profile@retriever.profile={profile}"
            label, own = measured([*data, chosen])
            _, other = measured([*data, chosen, "data.shuffled=true"])
            has = (own["past"] > 0).to_numpy()
            values = {
                name: frame["nDCG@10"].to_numpy()
                for name, frame in (("base", base), ("own", own), ("other", other))
            }
            gain, wide = interval((values["own"] - values["base"])[has])
            person, error = interval((values["own"] - values["other"])[has])
            new = np.abs(values["own"] - values["base"])[~has]
            rows.append(
                {
                    "taste": taste,
                    "profile": label,
                    "without": float(values["base"][has].mean()),
                    "gain": gain,
                    "gain ±": wide,
                    "of the person": person,
                    "person ±": error,
                    "hurt": float((values["own"] < values["base"] - 1e-9)[has].mean()),
                    "new users": float(new.max(initial=0.0)),
                    "searches": int(has.sum()),
                    "new": int((~has).sum()),
                }
            )
            print(rows[-1], flush=True)
    frame = pl.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.write_csv(RESULTS / "taste.csv", float_precision=6)
    text = "## Whose gain is it? SIMULATED shoppers\n\n"
    text += "| taste | profile | without | gain with own history | of it, the person's | hurt | "
    text += "new users |\n|---:|:---|---:|---:|---:|---:|---:|\n"
    for row in rows:
        text += f"| {row['taste']:g} | {row['profile']} | {row['without']:.3f} | "
        text += f"{row['gain']:+.3f} ± {row['gain ±']:.3f} | "
        text += f"{row['of the person']:+.3f} ± {row['person ±']:.3f} | {row['hurt']:.0%} | "
        text += f"{row['new users']:.3f} |\n"
    text += f"\nSIMULATED DATA. nDCG@10 of {rows[0]['searches']:,} searches with a history "
    text += f"({rows[0]['new']:,} without), {users:,} shoppers, one seed; ±: 95 %, over searches. "
    text += f"Hardware: {hardware()}, {time.perf_counter() - start:.0f} s. Commit: {git_commit()}. "
    text += f"Command: python experiments/personalised/taste.py {' '.join(arguments)}\n"
    (RESULTS / "taste.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
