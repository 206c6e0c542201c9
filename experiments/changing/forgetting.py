"""What is forgotten and what is learnt while a catalogue grows in steps (DSI++, Mehta et al. 2023).

Run: python experiments/changing/forgetting.py FOLDER...   (jobs of one system below outputs/jobs:
     a sweep over data.models and data.step, and step 0; writes results/forgetting.<catalogue>.md)

P[t, s] is Recall@10 of the products of arrival s after step t. Of n steps, A is the mean of P[n, s]
over s; F the mean over s < n of what was lost since the best of the steps before n, `max P[t, s] -
P[n, s]`; L the mean of P[s, s] over s > 0, how well products are found right after they arrive.
More products compete at each step, so recall falls where nothing is forgotten: what `kept` loses.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.report.formatting import number
from neurosearch.task.table import jobs_of

RESULTS = Path(__file__).with_name("results")


def override(record: dict[str, Any], key: str) -> str:
    """The value that a job's command gives a key. Raises SystemExit where it gives none."""
    found = [text.split("=", 1)[1] for text in record["overrides"] if text.startswith(f"{key}=")]
    if not found:
        raise SystemExit(f"a job without {key}: {record['folder']}")
    return found[-1]


def growth(record: dict[str, Any]) -> str:
    """What is grown, and how: the data's variant without its step."""
    return ",".join(t for t in record["variant"].split(",") if not t.startswith("step="))


def columns(step: int) -> list[str]:
    """Where a job of that step has the recall of each arrival."""
    if step < 2:  # one arrival, or none: the columns of every catalogue that grows
        return ["Recall@10 old", "Recall@10 new"][: step + 1]
    return [f"Recall@10 arrival {number}" for number in range(step + 1)]


def recalls(record: dict[str, Any], step: int) -> list[float]:
    """P[step, s] of one job, s from 0 to step; nan where no query asks for such a product."""
    return [float(record["means"].get(name, np.nan)) for name in columns(step)]


def checked(records: Sequence[dict[str, Any]]) -> int:
    """How many steps the jobs are of; SystemExit unless all are of one system on one data set."""
    for key in ("label", "data", "split", "protocol"):
        found = sorted({str(record[key]) for record in records})
        if len(found) != 1:
            raise SystemExit(f"jobs of more than one {key}: {', '.join(found) or 'there are none'}")
    given = sorted({growth(record) for record in records})
    if len(given) != 1:
        raise SystemExit(f"jobs of more than one catalogue: {'; '.join(given)}")
    return int(override(records[0], "data.steps"))


def matrices(records: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """seeds×(n+1)×(n+1) P of each policy, nan above the diagonal.

    Raises SystemExit where the jobs are not those of one sweep, or a number is not there.
    """
    size = 1 + checked(records)
    policies = dict.fromkeys(override(record, "data.models") for record in records)
    seeds = sorted({int(record["seed"]) for record in records})
    found = {policy: np.full((len(seeds), size, size), np.nan) for policy in policies}
    for record in records:
        step, place = int(override(record, "data.step")), seeds.index(int(record["seed"]))
        # Before the first step all policies are the same system.
        for policy in policies if step == 0 else [override(record, "data.models")]:
            row = found[policy][place, step]
            if not np.isnan(row).all():
                raise SystemExit(f"two jobs of step {step}, models {policy}, seed {record['seed']}")
            row[: step + 1] = recalls(record, step)
    for policy, values in found.items():
        for seed, step, arrival in np.argwhere(np.isnan(values) & np.tri(size, dtype=bool)):
            raise SystemExit(
                f"data.models={policy}, seed {seeds[seed]}: no Recall@10 of arrival {arrival} "
                f"after step {step}; is there such a job (data.step=0 is one of its own), and a "
                "test query for these products?"
            )
    return found


def summary(values: np.ndarray) -> dict[str, np.ndarray]:
    """A, F and L of seeds×(n+1)×(n+1) P, each by seed."""
    last = values.shape[1] - 1
    lost = np.nanmax(values[:, :last, :last], axis=1) - values[:, last, :last]
    learnt = values[:, range(1, last + 1), range(1, last + 1)]
    return {"A": values[:, last].mean(axis=1), "F": lost.mean(axis=1), "L": learnt.mean(axis=1)}


def shown(values: np.ndarray) -> str:
    """A mean over seeds, with their standard deviation where there are several."""
    if np.isnan(values).all():
        return ""
    numbers = [values.mean(), values.std(ddof=1)] if len(values) > 1 else [values.mean()]
    return " ± ".join(number("Recall@10", float(one)) for one in numbers)


def asked(record: dict[str, Any], step: int) -> list[int]:
    """Queries that ask for a product of each arrival, of a job of that step."""
    frame = pl.read_parquet(record["metrics"], columns=columns(step), glob=False)
    return [frame.height - count for count in frame.null_count().row(0)]


def main(arguments: Sequence[str]) -> None:
    """Write the matrix of each policy, and what it says."""
    records = jobs_of(arguments, "steps")
    found = matrices(records)
    first, size = records[0], next(iter(found.values())).shape
    grown = growth(first)
    last = next(r for r in records if int(override(r, "data.step")) == size[1] - 1)
    lines = [f"## Forgetting while a catalogue grows: {first['data']} with {grown}", ""]
    if first["simulated"]:
        lines += ["SIMULATED DATA: these numbers say nothing about real shops.", ""]
    lines += ["| models | A: all, at the end | F: lost | L: found on arrival |"]
    lines += ["|:---|---:|---:|---:|"]
    for policy, values in found.items():
        cells = [shown(value) for value in summary(values).values()]
        lines.append(f"| {policy} | {' | '.join(cells)} |")
    for policy, values in found.items():
        lines += ["", f"P of `{policy}`:", ""]
        lines.append(f"| after step | {' | '.join(f'arrival {s}' for s in range(size[2]))} |")
        lines.append("|:---|" + "---:|" * size[2])
        for step in range(size[1]):
            cells = [shown(values[:, step, arrival]) for arrival in range(size[2])]
            lines.append(f"| {step} | {' | '.join(cells)} |")
    counts = " | ".join(f"{count:,}" for count in asked(last, size[1] - 1))
    lines.append(f"| queries at the end | {counts} |")
    commits = ", ".join(dict.fromkeys(str(record["commit"]) for record in records))
    lines += [
        "",
        f"P: Recall@10 of {first['label']}, of the products of an arrival, after a step.  ",
    ]
    lines.append(
        "A: the mean over arrivals after the last step. F: the mean of what was lost since the "
        "best step before. L: the mean of what is found right after it arrives. More products "
        "compete at each step, so read F against that of `kept`, which forgets nothing.  "
    )
    lines.append(f"Seeds: {size[0]}, ± over seeds. {first['split']} split. Commit: {commits}.")
    RESULTS.mkdir(exist_ok=True)
    text = "\n".join(lines) + "\n"
    (RESULTS / f"forgetting.{first['data']},{grown}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
