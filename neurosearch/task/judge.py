"""`task=judge`: how far a model's grades agree with people's, before they fill any hole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.store import write_whole
from neurosearch.core.types import Judgments
from neurosearch.evaluation.filled import agreement, refusal
from neurosearch.judge.base import Judge
from neurosearch.task.base import Job, Task


@dataclass(frozen=True)
class JudgeAgreement(Task):
    """Attributes:
    judge: whose grades.
    systems: by name; their order by people's labels and by the judge's, over the same pairs.
    """

    judge: Judge
    systems: Mapping[str, Retriever]

    def run(self, job: Job) -> None:
        runtime, gain = job.runtime, job.evaluation.gain
        self.judge.check(runtime)
        found = agreement(self.judge, job.dataset, gain)
        compared: dict[str, Any] = runtime.get(found)
        facts = dict(compared)
        if not facts["graded"]:
            raise InputError(f"judge {self.judge.label()} gave no grade to {facts['pairs']} pairs")
        facts |= self._order(job, found)
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
        graded = runtime.get(found.grades).drop_nulls("grade")
        names = pl.Series(self.judge.labels, dtype=pl.String)
        theirs = graded.select("query_id", "product_id", label=names.gather(graded["grade"]))
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


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(_shown(one) for one in value)
    if isinstance(value, float):
        return "undefined" if np.isnan(value) else f"{value:.3f}"
    return "no" if value is None else str(value)
