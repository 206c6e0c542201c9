"""One system on one data set: its run, metrics and latency, and what a job's record says of them.

The command line (`task.evaluate`) and Python (`compare`) both end here, so that their tables are
made of the same artifacts and records.
"""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import values_of
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.query import QueryProcessor
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import write_whole
from neurosearch.core.types import Dataset
from neurosearch.data.base import Data
from neurosearch.evaluation.base import JUDGED, Evaluation
from neurosearch.evaluation.latency import costs
from neurosearch.nn.pretrained import models_of
from neurosearch.query.changes import FILE, QueryChanges
from neurosearch.query.none import NoProcessing
from neurosearch.task.exchange import save_mteb, save_qrels


def data_facts(data: Data, runtime: Runtime) -> dict[str, Any]:
    """What a record says of its data, of the machine, and of the threads that it was given."""
    return {
        "data": data.label(),
        "data_choice": data.choice,
        "simulated": data.simulated,
        "variant": data.variant(),
        "population": data.population().fingerprint,
        "hardware": hardware(runtime.cpu_threads),
        "commit": git_commit(),
    }


def system_facts(retriever: Retriever, evaluation: Evaluation) -> dict[str, Any]:
    """What a record says of the system and of how it is evaluated."""
    return {
        "label": retriever.label(),
        "seeded": bool(values_of(retriever, "seed")),
        "models": models_of(retriever),
        "precisions": sorted(set(values_of(retriever, "precision"))),
        "is_reference": retriever.is_reference,
        "protocol": evaluation.protocol,
        "split": evaluation.split,
        "gain": evaluation.gain.label(),
        "gain_words": evaluation.gain.words(),
        "depth": evaluation.depth if evaluation.pool == "catalogue" else 0,
        "ties": evaluation.ties,
        "gain_fingerprint": evaluation.gain.fingerprint,
        "baseline": evaluation.baseline,
        "resamples": evaluation.resamples,
        "statistics_seed": evaluation.seed,
    }


def measured(
    retriever: Retriever,
    data: Artifact[Dataset],
    query: QueryProcessor,
    evaluation: Evaluation,
    runtime: Runtime,
    folder: Path,
    trec: bool,
) -> dict[str, Any]:
    """Build a system's run and metrics; returns the numbers for the record.

    Args:
        data: a built data set (`Data.bound`).
        folder: of the job: gets metrics.parquet and run.parquet, with `trec` run.trec, qrels.trec
            and mteb.json, and queries.csv where queries are processed.
    """
    start = time.perf_counter()
    request = evaluation.request(query)
    run = retriever.run(data, request)
    metrics = evaluation.metrics(retriever, data, query)
    source = runtime.store.ensure(metrics)
    write_whole(folder / "metrics.parquet", (source / "metrics.parquet").read_bytes())
    frame = runtime.get(metrics)
    means = frame.drop("query_id").mean().row(0, named=True)
    means = {name: value for name, value in means.items() if value is not None}
    stored = runtime.store.ensure(run) / "run.parquet"
    _copy_run(folder, run.artifact_fingerprint, stored, trec)
    if trec:
        judged = pl.read_parquet(source / JUDGED, glob=False)
        save_qrels(judged, folder / "qrels.trec")
        name, revision = runtime.get(data).name, data.artifact_fingerprint
        seconds = round(time.perf_counter() - start, 3)
        save_mteb(means, name, revision, evaluation.split, seconds, folder / "mteb.json")
    changes = None
    if not isinstance(query, NoProcessing):
        asked = view.with_queries(data, evaluation.split)
        processing = retriever.processing(data, query)
        listed = QueryChanges(asked, evaluation.split, processing, retriever.reads_by)
        changes = runtime.store.ensure(listed) / FILE
        pl.read_parquet(changes, glob=False).write_csv(folder / "queries.csv")
    latency = evaluation.latency_of(retriever, data, query)
    serving = retriever.serving(data, request)
    cost = costs(serving, len(runtime.get(data).catalogue), runtime) if serving else None
    return {
        "means": means,
        "n_queries": frame.height,
        "metrics": str(source / "metrics.parquet"),
        "changes": None if changes is None else str(changes),
        "latency": cost if latency is None else runtime.get(latency),
        "run": run.artifact_fingerprint,
        "chosen": runtime.store.chosen(run),
        "artifacts": list(runtime.store.events),
        "flags": runtime.store.flags(),
        "runtime": {
            spec.name: str(getattr(runtime, spec.name))
            for spec in fields(runtime)
            if not spec.name.startswith("_")
        },
    }


def targets(
    retriever: Retriever, data: Artifact[Dataset], query: QueryProcessor, evaluation: Evaluation
) -> list[Artifact[Any]]:
    """The artifacts that `measured` builds: metrics and run, the data, what serves, latency."""
    request = evaluation.request(query)
    latency = evaluation.latency_of(retriever, data, query)
    return [
        evaluation.metrics(retriever, data, query),
        retriever.run(data, request),
        data,
        *retriever.serving(data, request),
        *([] if latency is None else [latency]),
    ]


def _copy_run(folder: Path, fingerprint: str, source: Path, trec: bool) -> None:
    stamp = folder / "run.fingerprint"
    there = (folder / "run.parquet").exists()
    if there and stamp.exists() and stamp.read_text() == fingerprint:
        return
    write_whole(folder / "run.parquet", source.read_bytes())
    if trec:
        from neurosearch.core.run import Run

        Run.load(source).save_trec(folder / "run.trec")
    write_whole(stamp, fingerprint.encode())
