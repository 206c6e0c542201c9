"""The vectors that the scripts of this folder measure with, and how they write their tables."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.task.base import Job

RESULTS = Path(__file__).with_name("results")


def job_of(overrides: Sequence[str]) -> Job:
    """`retriever=dense` with overrides, as a job."""
    words = ["retriever=dense", *overrides]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=words)
    return Job.compose(config, words, 0, Path(tempfile.mkdtemp()))


def vectors_of(job: Job, split: str = "dev") -> tuple[np.ndarray, np.ndarray]:
    """N×D product vectors and Q×D vectors of a split's queries, float32."""
    dense: Any = job.retriever
    embeddings = dense.encoder.product_embeddings(job.dataset)
    products = np.asarray(job.runtime.get(embeddings).vectors, dtype=np.float32)
    embedded = dense.encoder.query_embeddings(job.dataset, split, job.processing)
    return products, np.asarray(job.runtime.get(embedded).vectors, dtype=np.float32)


def publish(name: str, data: str, title: str, rows: list[dict[str, Any]], note: str) -> None:
    """results/<name>.<data>.csv has the rows, .md the table."""
    RESULTS.mkdir(exist_ok=True)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    frame.write_csv(RESULTS / f"{name}.{data}.csv", float_precision=4)
    columns = frame.columns
    text = f"## {title}: {data}\n\n| {' | '.join(columns)} |\n|:---|"
    text += "---:|" * (len(columns) - 1) + "\n"
    for row in frame.iter_rows():
        text += f"| {' | '.join(_shown(value) for value in row)} |\n"
    text += f"\n{note} Hardware: {hardware()}. Commit: {git_commit()}. Command: python "
    text += f"experiments/ann/{name}.py data={data}\n"
    (RESULTS / f"{name}.{data}.md").write_text(text, encoding="utf-8")
    print(text, flush=True)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else str(value)
