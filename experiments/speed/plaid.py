"""Our compressed index beside exact MaxSim and beside PyLate's PLAID, on the same token vectors.

One query at a time on a CPU: milliseconds, the share of exact search's first K that is found, and
nDCG@10, with bytes a token and seconds to build. The vectors are those of the data's trained
ColBERT (trained first where there is none). PyLate can't be installed beside us, so it runs in an
environment of its own; without one, its columns are left empty. Results in results/plaid.csv.

    PYLATE_PYTHON=pylate/bin/python python experiments/speed/plaid.py data=home_depot
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.run import Run
from neurosearch.core.types import Queries
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.data.base import DatasetArtifact
from neurosearch.evaluation.metrics import per_query
from neurosearch.index.multivector import MultiVector
from neurosearch.task.base import build

QUERIES, K, BITS = 300, 100, (4, 2, 1)
HERE = Path(__file__).parent
COLUMNS = [
    "data", "engine", "bits", "ms a query (median)", "recall of exact's 100", "nDCG@10",
    "bytes a token", "build s", "queries", "hardware", "commit",
]  # fmt: skip


def main(overrides: list[str]) -> None:
    with initialize_config_module(version_base="1.3", config_module="neurosearch.conf"):
        config = compose("config", ["retriever=late_interaction", *overrides])
    runtime, retriever = build(config, "runtime"), build(config, "retriever")
    source = DatasetArtifact(build(config, "data"))
    data = runtime.get(source)
    tokens = retriever.encoder.product_tokens(source)
    asked = runtime.get(retriever.encoder.query_tokens(source, "test", retriever.encoder.query))
    few = min(QUERIES, len(asked))
    asked = TokenEmbeddings(
        np.asarray(asked.vectors[: asked.offsets[few]]), asked.offsets[: few + 1], asked.encoder
    )
    queries = Queries("test", data.queries("test").frame.head(few))
    ids = data.catalogue.ids.to_numpy()
    judgments, gain = data.judgments("test"), build(config, "evaluation").gain
    lines: list[dict[str, Any]] = []
    total = int(runtime.get(tokens).offsets[-1])

    def add(engine: str, bits: Any, rows: np.ndarray, seconds: Any, size: int, built: Any) -> None:
        shared = [len(np.intersect1d(a[a >= 0], b)) for a, b in zip(rows, truth, strict=True)]
        found = per_query(_run(rows, queries, ids), queries, judgments, gain, ("nDCG@10",))
        lines.append(
            {
                "data": data.name,
                "engine": engine,
                "bits": bits,
                "ms a query (median)": round(1000 * float(np.median(seconds)), 2),
                "recall of exact's 100": round(float(np.mean(shared)) / K, 4),
                "nDCG@10": round(float(found["nDCG@10"].to_numpy().mean()), 4),
                "bytes a token": round(size / total, 1),
                "build s": round(float(built), 1),
                "queries": few,
                "hardware": hardware(),
                "commit": git_commit(),
            }
        )

    truth = np.empty((few, K), dtype=np.int64)
    for bits in (None, *BITS):
        artifact = MultiVector(bits=bits).build(tokens)
        live = runtime.get(artifact)
        rows, seconds = _timed(lambda one, live=live: live.search(one, K, runtime)[0], asked)
        if bits is None:
            truth = rows
        size, _ = runtime.store.cost([artifact])
        manifest = runtime.store.manifest(artifact)
        add("ours", bits or "exact", rows, seconds, size, manifest["seconds"])
    peer = os.environ.get("PYLATE_PYTHON")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        products = runtime.get(tokens)
        np.savez(folder / "products.npz", vectors=products.vectors, offsets=products.offsets)
        np.savez(folder / "queries.npz", vectors=asked.vectors, offsets=asked.offsets)
        for bits in BITS if peer else ():
            script = str(HERE / "plaid_peer.py")
            subprocess.run([str(peer), script, made, str(bits), str(K)], check=True)
            with np.load(folder / f"peer.{bits}.npz") as found:
                given = (found["rows"], found["seconds"], int(found["bytes"]), found["build"])
                add("PyLate PLAID", bits, *given)
    path = HERE / "results" / "plaid.csv"
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    print(pl.read_csv(path))


def _timed(
    search: Callable[[TokenEmbeddings], np.ndarray], asked: TokenEmbeddings
) -> tuple[np.ndarray, np.ndarray]:
    """Q×K rows and Q seconds, one query at a time."""
    found, seconds = [], []
    for number in range(len(asked)):
        one = TokenEmbeddings(asked.of(number), np.array([0, len(asked.of(number))]), asked.encoder)
        if not number:
            search(one)  # warm
        start = time.perf_counter()
        found.append(search(one)[0])
        seconds.append(time.perf_counter() - start)
    return np.stack(found), np.array(seconds)


def _run(rows: np.ndarray, queries: Queries, ids: np.ndarray) -> Run:
    query, place = np.nonzero(rows >= 0)
    frame = pl.DataFrame(
        {
            "query_id": queries.ids.to_numpy()[query],
            "product_id": ids[rows[query, place]],
            "score": -place.astype(np.float64),
        }
    )
    return Run.from_frame(frame, queries)


if __name__ == "__main__":
    main(sys.argv[1:])
