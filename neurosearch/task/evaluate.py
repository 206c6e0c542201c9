"""The default task: run the system, evaluate it, measure its latency, record the job."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.machine import log, peak_memory_mb
from neurosearch.core.recipe import values_of
from neurosearch.core.store import write_whole
from neurosearch.evaluation.latency import costs
from neurosearch.task.base import Job, Task, build, resolved


@dataclass(frozen=True)
class Evaluate(Task):
    """`trec`: also write the run as a TREC file into the job's folder."""

    trec: bool = True

    tabulated: ClassVar[bool] = True

    def run(self, job: Job) -> float | None:
        start = time.perf_counter()
        identity = self._identity(job)
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / "config.yaml", resolved(job.config).encode())
        tracking = build(job.config, "tracking")
        with tracking.job(job, identity) as tracker:
            outcome = self._evaluate(job)
            tracker.log(outcome["means"] | (outcome["latency"] or {}))
            tracker.artifacts(outcome["artifacts"], job.runtime.store.root)
            seconds = round(time.perf_counter() - start, 2)
            memory = round(peak_memory_mb(), 1)
            job.record(**identity, status="done", seconds=seconds, peak_memory_mb=memory, **outcome)
        for name, values in outcome["chosen"].items():
            log.info("chosen on dev, %s: %s", name, values)
        events = outcome["artifacts"]
        built = sum(event["event"] == "built" for event in events)
        headline = outcome["means"].get("nDCG@10", float("nan"))
        log.info(
            "%s: nDCG@10 %.3f (%d artifacts reused, %d built, %.1f s)",
            *(identity["label"], headline, len(events) - built, built, seconds),
        )
        return float(headline)

    def check(self, job: Job) -> None:
        for target in targets_of(job):
            job.runtime.store.check(target)

    def _identity(self, job: Job) -> dict[str, Any]:
        from hydra.core.hydra_config import HydraConfig

        evaluation = job.evaluation
        return {
            **job.identity(),
            "label": job.retriever.label(),
            "choices": job.choices(),
            "seeded": bool(values_of(job.retriever, "seed")),
            "precisions": sorted(set(values_of(job.retriever, "precision"))),
            "floor": job.retriever.is_bound,
            "protocol": evaluation.pool,
            "split": evaluation.split,
            "gain": evaluation.gain.label(),
            "gain_words": evaluation.gain.words(),
            "ties": evaluation.ties,
            "gain_fingerprint": evaluation.gain.fingerprint,
            "gain_choice": HydraConfig.get().runtime.choices["evaluation/gain"],
            "baseline": evaluation.baseline,
            "resamples": evaluation.resamples,
            "statistics_seed": evaluation.seed,
        }

    def _evaluate(self, job: Job) -> dict[str, Any]:
        runtime, evaluation = job.runtime, job.evaluation
        data = job.dataset
        run = job.retriever.run(data, evaluation.request(job.query))
        metrics = evaluation.metrics(job.retriever, data, job.query)
        folder = runtime.store.ensure(metrics)
        write_whole(job.folder / "metrics.parquet", (folder / "metrics.parquet").read_bytes())
        frame = runtime.get(metrics)
        means = frame.drop("query_id").mean().row(0, named=True)
        means = {name: value for name, value in means.items() if value is not None}
        self._copy_run(job, run.artifact_fingerprint, runtime.store.ensure(run) / "run.parquet")
        latency = evaluation.latency_of(job.retriever, data, job.query)
        serving = job.retriever.serving(data, evaluation.request(job.query))
        cost = costs(serving, len(runtime.get(data).catalogue), runtime) if serving else None
        return {
            "means": means,
            "n_queries": frame.height,
            "metrics": str(folder / "metrics.parquet"),
            "latency": cost if latency is None else runtime.get(latency),
            "run": run.artifact_fingerprint,
            "chosen": runtime.store.chosen(run),
            "artifacts": list(runtime.store.events),
            "flags": runtime.store.flags(),
            "runtime": {
                key: str(value) for key, value in asdict(runtime).items() if not key.startswith("_")
            },
        }

    def _copy_run(self, job: Job, fingerprint: str, source: Path) -> None:
        stamp = job.folder / "run.fingerprint"
        there = (job.folder / "run.parquet").exists()
        if there and stamp.exists() and stamp.read_text() == fingerprint:
            return
        write_whole(job.folder / "run.parquet", source.read_bytes())
        if self.trec:
            from neurosearch.core.run import Run

            Run.load(source).save_trec(job.folder / "run.trec")
        write_whole(stamp, fingerprint.encode())


def targets_of(job: Job) -> list[Artifact[Any]]:
    """What a job asks for: its metrics and run, the data, what serves, its latency."""
    data, request = job.dataset, job.evaluation.request(job.query)
    latency = job.evaluation.latency_of(job.retriever, data, job.query)
    return [
        job.evaluation.metrics(job.retriever, data, job.query),
        job.retriever.run(data, request),
        data,
        *job.retriever.serving(data, request),
        *([] if latency is None else [latency]),
    ]
