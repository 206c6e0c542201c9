"""The default task: run the system, evaluate it, measure its latency, record the job."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.machine import log, peak_memory_mb
from neurosearch.core.store import write_whole
from neurosearch.task.base import SWEEP, Job, Task, build, resolved
from neurosearch.task.measure import measured, system_facts, targets


@dataclass(frozen=True)
class Evaluate(Task):
    """`trec`: also write run, judgments and results as other evaluators read them (`exchange`)."""

    trec: bool = True

    tabulated: ClassVar[bool] = True

    def run(self, job: Job) -> float | None:
        start = time.perf_counter()
        identity = self._identity(job)
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / "config.yaml", resolved(job.config).encode())
        system = job.retriever, job.dataset, job.processing, job.evaluation
        with build(job.config, "tracking").job(job, identity) as tracker:
            outcome = measured(*system, job.runtime, job.folder, self.trec)
            tracker.log(outcome["means"] | (outcome["latency"] or {}))
            tracker.artifacts(outcome["artifacts"], job.runtime.store.root)
            seconds = round(time.perf_counter() - start, 2)
            memory = round(peak_memory_mb(), 1)
            record = {**identity, "status": "done", "seconds": seconds, "peak_memory_mb": memory}
            job.record(**record, **outcome)
        for name, values in outcome["chosen"].items():
            log.info("chosen on dev, %s: %s", name, values)
        events = outcome["artifacts"]
        built = sum(event["event"] == "built" for event in events)
        headline = outcome["means"].get("nDCG@10", float("nan"))
        log.info(
            "%s: nDCG@10 %.3f (%d artifacts reused, %d built, %.1f s)",
            *(identity["label"], headline, len(events) - built, built, seconds),
        )
        if SWEEP not in os.environ:  # a sweep prints its table
            self._print(job, {**record, **outcome})
        return float(headline)

    def _print(self, job: Job, record: dict[str, Any]) -> None:
        """The job's row, with intervals, and what was written."""
        from neurosearch.report.formatting import interval, number
        from neurosearch.report.table import make_tables

        (table,) = make_tables([{**record, "folder": str(job.folder)}])
        row, columns = table.rows[0], job.config.report.columns
        for name in (column for column in columns if column in row.cells):
            ends = interval(row, name)
            print(f"{name:>18}  {number(name, row.cells[name].mean):>7}  {ends}".rstrip())
        written = sorted(path.name for path in job.folder.iterdir() if path.is_file())
        print(f"{row.caption} on {table.title}, {row.queries} {table.split} queries")
        print(f"{job.folder}: {', '.join(written)}")

    def targets(self, job: Job) -> list[Artifact[Any]]:
        return targets(job.retriever, job.dataset, job.processing, job.evaluation)

    def _identity(self, job: Job) -> dict[str, Any]:
        from hydra.core.hydra_config import HydraConfig

        return {
            **job.identity(),
            **system_facts(job.retriever, job.evaluation),
            "choices": job.choices(),
            "gain_choice": HydraConfig.get().runtime.choices["evaluation/gain"],
        }
