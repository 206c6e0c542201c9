"""`task=clicks logs=…`: what a log says before anything is learnt from it.

Its health (what was left out, by reason), click models' perplexity on the half of the lists that
they were not fitted to, and position bias by every estimator, beside the planted one where users
are simulated. `task.write=FOLDER` writes the log as UBI's files.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.clicks.base import ClickModel, perplexity
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.store import write_whole
from neurosearch.core.types import Dataset
from neurosearch.implicit.base import word_features
from neurosearch.logs.base import LoggedClicks, Logs
from neurosearch.logs.writing import write_ubi
from neurosearch.propensity.base import Propensity
from neurosearch.task.base import Job, Task, build


@dataclass(frozen=True)
class Clicks(Task):
    """Attributes:
    models: click models by name.
    propensities: estimators of position bias by name.
    split: whose queries' log, `train` or `dev`.
    ranks: of a list that are looked at.
    held_out: share of the lists that click models predict.
    write: a folder for UBI's files; None for none.
    """

    models: Mapping[str, ClickModel]
    propensities: Mapping[str, Propensity]
    split: str = setting("train", choices=("train", "dev"))
    ranks: int = setting(10, least=2)
    held_out: float = setting(0.5, above=0, below=1)
    write: str | None = None

    def run(self, job: Job) -> None:
        logs: Logs = build(job.config, "logs")
        runtime = job.runtime
        data = runtime.get(job.dataset)
        log = runtime.get(logs.log(job.dataset, self.split))
        logged = log.arrays(self.ranks)
        facts: dict[str, Any] = {"data": job.data.label(), "logs": logs.label()}
        facts["simulated"] = logs.simulated or job.data.simulated
        facts |= self._health(logged) | {"left out": dict(log.left_out)}
        facts["click models"] = self._predicted(logged)
        planted = logs.planted_examination(self.ranks)
        facts["examination"] = self._examined(logged, data, planted)
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / "clicks.json", json.dumps(facts, indent=1).encode())
        write_whole(job.folder / "examination.csv", as_csv(facts["examination"]).encode())
        if self.write is not None:
            texts = dict(data.queries(self.split).frame.select("query_id", "text").iter_rows())
            write_ubi(log, texts, Path(self.write), "simulated" if logs.simulated else "log")
        show(facts)
        print(f"{job.folder / 'clicks.json'}")
        if self.write is not None:
            print(f"{self.write}: queries.jsonl and events.jsonl, in UBI's schema")

    def _health(self, logged: LoggedClicks) -> dict[str, Any]:
        log = logged.log
        return {
            "lists": len(log),
            "pairs": log.count,
            "clicks a list": float(log.clicks.sum() / len(log)),
            "lists without a click": float(1 - log.clicks.any(axis=1).mean()),
            "clicks by rank": [
                round(float(x), 5)
                for x in log.clicks.sum(axis=0) / np.maximum(log.shown.sum(axis=0), 1)
            ],
        }

    def _predicted(self, logged: LoggedClicks) -> list[dict[str, Any]]:
        """Perplexity of what was not seen; every second list is held out by the same draw."""
        held = np.random.default_rng(0).random(len(logged.log)) < self.held_out
        if not held.any() or held.all():
            raise InputError(f"the log has {len(logged.log)} lists: too few to hold some out")
        seen, unseen = logged.part(~held).log, logged.part(held).log
        rows = []
        for name, model in self.models.items():
            fitted = model.fit(seen)
            rows.append(
                {
                    "model": name,
                    "conditional": float(
                        np.nanmean(perplexity(fitted.conditional(unseen), unseen))
                    ),
                    "marginal": float(np.nanmean(perplexity(fitted.marginal(unseen), unseen))),
                    "log-likelihood": fitted.likelihood(unseen),
                }
            )
        return rows

    def _examined(
        self, logged: LoggedClicks, data: Dataset, planted: np.ndarray | None
    ) -> list[dict[str, Any]]:
        """Chances that ranks are looked at; an estimator that can't say has its reason."""
        rows: list[dict[str, Any]] = []
        if planted is not None:
            rows.append({"by": "planted", "chances": list(planted), "error": 0.0})
        rates = logged.log.clicks.sum(axis=0) / np.maximum(logged.log.shown.sum(axis=0), 1)
        found: dict[str, Any] = {"clicks as they are": rates / max(rates[0], 1e-12)}

        def features() -> tuple[np.ndarray, np.ndarray]:
            return word_features(data, self.split, logged.pairs)

        for name, estimator in self.propensities.items():
            try:
                found[name] = estimator.examination(logged, features)
            except InputError as error:
                rows.append({"by": name, "chances": None, "reason": str(error)})
        for name, chances in found.items():
            row: dict[str, Any] = {"by": name, "chances": [float(x) for x in chances]}
            if planted is not None:
                row["error"] = float(np.sqrt(np.mean((chances - planted) ** 2)))
            rows.append(row)
        return rows


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Chances by rank, one estimator a line.

    Args:
        rows: of `_examined`.

    Returns:
        CSV.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["by", "rank", "chance"])
    for row in rows:
        for rank, chance in enumerate(row["chances"] or [], 1):
            writer.writerow([row["by"], rank, f"{chance:.6f}"])
    return text.getvalue()


def show(facts: Mapping[str, Any]) -> None:
    """Print what was found.

    Args:
        facts: of the log.
    """
    kind = "SIMULATED USERS OR DATA. " if facts["simulated"] else ""
    print(f"{kind}{facts['logs']} on {facts['data']}: {facts['lists']:,} lists, ", end="")
    print(f"{facts['clicks a list']:.2f} clicks a list, ", end="")
    print(f"{facts['lists without a click']:.1%} without a click")
    for reason, count in facts["left out"].items():
        print(f"  {count:>9,}  {reason}")
    print(f"  {'click model':>20}  conditional  marginal perplexity  log-likelihood a list")
    for row in facts["click models"]:
        print(
            f"  {row['model']:>20}  {row['conditional']:11.4f}  {row['marginal']:19.4f}  "
            f"{row['log-likelihood']:21.4f}"
        )
    print(f"  {'position bias by':>20}  error  rank 1, 2, 3, …")
    for row in facts["examination"]:
        if row["chances"] is None:
            print(f"  {row['by']:>20}  {row['reason']}")
            continue
        error = f"{row['error']:.3f}" if "error" in row else "     "
        print(f"  {row['by']:>20}  {error}  " + " ".join(f"{x:.2f}" for x in row["chances"]))
