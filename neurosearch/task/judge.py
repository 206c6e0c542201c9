"""`task=judge`: how far a model's grades agree with people's, before they fill any hole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.store import write_whole
from neurosearch.core.types import Judgments
from neurosearch.data.reading import read_delimited
from neurosearch.data.requirements import require_file
from neurosearch.evaluation.agreement import confusion, kappa, nearest_grades
from neurosearch.evaluation.filled import agreement, labelled, refusal
from neurosearch.evaluation.gain import Gain
from neurosearch.judge.base import Judge
from neurosearch.task.base import Job, Task


@dataclass(frozen=True)
class JudgeAgreement(Task):
    """Attributes:
    judge: whose grades.
    systems: by name; their order by people's labels and by the judge's, over the same pairs.
    raters: a CSV of single raters' labels: `query_id`, `product_id`, and a column a rater.
    """

    judge: Judge
    systems: Mapping[str, Retriever]
    raters: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.raters is not None:
            raters_of(Path(self.raters))

    def run(self, job: Job) -> None:
        runtime, gain = job.runtime, job.evaluation.gain
        self.judge.check(runtime)
        found = agreement(self.judge, job.dataset, gain)
        compared: dict[str, Any] = runtime.get(found)
        facts = dict(compared)
        if not facts["graded"]:
            raise InputError(f"judge {self.judge.label()} gave no grade to {facts['pairs']} pairs")
        facts |= self._order(job, found)
        if self.raters is not None:
            graded = runtime.get(found.grades).drop_nulls("grade")
            facts |= by_rater(graded, raters_of(Path(self.raters)), gain, self.judge.labels)
        reason = refusal(facts, self.judge)
        facts["refused"] = reason
        print(f"{self.judge.label()} on {job.data.label()}, {facts['pairs']} pairs of dev")
        for name, value in facts.items():
            if name not in ("confusion", "pairs", "systems"):
                print(f"  {name:>24}  {_shown(value)}")
        for row in facts["systems"]:
            print(f"  {row['system']:>24}  {row['people']:.3f} by people, {row['judge']:.3f} by it")
        print("  people (rows) and the judge (columns), grades 0 to 3:")
        for row in facts["confusion"]:
            print("  " + "".join(f"{count:>7,}" for count in row))
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / "agreement.json", json.dumps(facts, indent=1).encode())
        print(f"{job.folder / 'agreement.json'}")

    def _order(self, job: Job, found: Any) -> dict[str, Any]:
        """Kendall's tau of the systems' order by both kinds of labels."""
        from scipy.stats import kendalltau

        from neurosearch.evaluation.metrics import per_query

        runtime, gain = job.runtime, job.evaluation.gain
        data = runtime.get(found.data)
        theirs = labelled(runtime.get(found.grades), self.judge.labels)
        people = data.judgments("dev").frame.join(theirs.drop("label"), on=theirs.columns[:2])
        request = RetrievalRequest(job.processing, "dev", job.evaluation.depth)
        rows = []
        for name, system in self.systems.items():
            run = runtime.get(system.run(job.dataset, request))
            means = [
                float(
                    per_query(run, data.queries("dev"), Judgments("dev", labels), gain, ["nDCG@10"])
                    ["nDCG@10"].to_numpy().mean()
                )
                for labels in (people, theirs)
            ]  # fmt: skip
            rows.append({"system": name, "people": means[0], "judge": means[1]})
        tau = float("nan")
        if len(rows) > 1:
            pairs = [[row[key] for row in rows] for key in ("people", "judge")]
            tau = float(kendalltau(*pairs).statistic)
        return {"tau of systems": tau, "systems": rows}


def raters_of(file: Path) -> pl.DataFrame:
    """Labels of single raters.

    Args:
        file: a CSV with `query_id`, `product_id`, and a column `rater…` for each of them.

    Returns:
        All as String.

    Raises:
        InputError: the file is not there, or has no such columns.
    """
    require_file(file, "a CSV of query_id, product_id and a column for each rater")
    frame = read_delimited(file, ("query_id", "product_id"))
    if not [name for name in frame.columns if name.startswith("rater")]:
        raise InputError(f"{file}: no column is named rater…, one for each rater")
    return frame


def by_rater(
    graded: pl.DataFrame, raters: pl.DataFrame, gain: Gain, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Kappa of grades between the judge and each rater, and among the raters.

    Args:
        graded: `query_id`, `product_id`, `grade` of the judge.
        raters: see `raters_of`.
        gain: whose levels the raters' labels are ranked by.
        labels: the label of each grade.

    Returns:
        A kappa for each rater, the mean of the raters' own, and how many pairs all of them rated.
    """
    names = [name for name in raters.columns if name.startswith("rater")]
    both = graded.join(raters.drop_nulls(names), on=["query_id", "product_id"])
    facts: dict[str, Any] = {"pairs by all raters": both.height}
    if not both.height:
        return facts
    steps = gain.values(pl.Series(labels))["level"].to_numpy()

    def grades(name: str) -> np.ndarray:
        levels = gain.values(both[name].cast(pl.String))["level"].to_numpy()
        return nearest_grades(levels, steps)

    own, theirs = both["grade"].to_numpy(), {name: grades(name) for name in names}
    size = len(labels)
    for name, values in theirs.items():
        facts[f"kappa with {name}"] = kappa(confusion(values, own, size))
    among = [kappa(confusion(theirs[a], theirs[b], size)) for a, b in combinations(names, 2)]
    return {**facts, "kappa among raters": float(np.mean(among)) if among else float("nan")}


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(_shown(one) for one in value)
    if isinstance(value, float):
        return "undefined" if np.isnan(value) else f"{value:.3f}"
    return "no" if value is None else str(value)
