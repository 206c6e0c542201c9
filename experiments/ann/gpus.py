"""FAISS's indexes on GPUs: the same results as on the CPU, and how much faster.

Run: python experiments/ann/gpus.py data=home_depot   (writes results/gpus.<data>.md)
     with `pip install -e ".[gpu]"` and an NVIDIA GPU, or several

Dev queries. A CPU uses all its cores, a GPU answers the same batch; where there are several GPUs,
they hold shards and then replicas. `same rows %` is how many of the CPU's ten results the GPU
finds; what differs has the same score to five digits or stood beside it (`score error` is the
largest difference of the k-th scores, k = 1 to 10).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import faiss
import numpy as np
import torch
from vectors import job_of, publish, vectors_of

from neurosearch.core.runtime import Runtime
from neurosearch.index.base import Index
from neurosearch.index.exact import Exact
from neurosearch.index.flat import Flat
from neurosearch.index.gpu_flat import GpuFlat
from neurosearch.index.ivf import IVF
from neurosearch.index.ivfpq import IVFPQ

K, SECONDS = 10, 2.0


def recipes(width: int, count: int) -> dict[str, Index]:
    """Those that can move."""
    cells = 2 ** round(float(np.log2(4 * count**0.5)))
    lists: dict[str, Any] = {"cells": cells, "probes": max(1, cells // 16)}
    return {
        "flat": Flat(),
        "gpu_flat (torch)": GpuFlat(),
        "ivf": IVF(**lists),
        "ivf (half)": IVF(**lists, code="half"),
        "ivf (8 bits)": IVF(**lists, code="sq8"),
        "ivfpq": IVFPQ(**lists, parts=width // 8, bits=8),
        "ivfpq (opq)": IVFPQ(**lists, parts=width // 8, bits=8, rotation="opq"),
    }


def places(runtime: Runtime) -> Iterator[tuple[str, Runtime]]:
    """Where an index is searched: the CPU, a GPU, and all GPUs in both ways."""
    yield "CPU", replace(runtime, device="cpu", devices=1)
    yield "GPU", replace(runtime, device="cuda", devices=1)
    count = torch.cuda.device_count()
    if count > 1:
        yield f"{count} GPUs, shards", replace(runtime, devices=count, spread="shards")
        yield f"{count} GPUs, replicas", replace(runtime, devices=count, spread="replicas")


def speed(search: Callable[[np.ndarray], object], queries: np.ndarray) -> tuple[float, float]:
    """Queries a second in one batch, and median milliseconds of a single one."""
    search(queries)
    begun, batches = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        search(queries)
        batches += 1
    batched = batches * len(queries) / (time.perf_counter() - begun)
    singles = []
    for place in range(min(200, len(queries))):
        start = time.perf_counter()
        search(queries[place : place + 1])
        singles.append(time.perf_counter() - start)
    return batched, 1000 * float(np.median(singles))


def main() -> None:
    """Measure, and write the table."""
    if not getattr(faiss, "get_num_gpus", lambda: 0)() or not torch.cuda.is_available():
        raise SystemExit("FAISS sees no GPU: this wants an NVIDIA GPU and the extra `gpu`")
    overrides = sys.argv[1:]
    data = next((w.split("=")[1] for w in overrides if w.startswith("data=")), "shop")
    job = job_of(overrides)
    products, queries = vectors_of(job)
    exact = Exact.of(queries, products, K)
    note = f"{len(products):,} products, {len(queries)} dev queries in one batch, and singly. "
    note += f"FAISS {faiss.__version__} ({faiss.get_compile_options().strip()})."
    rows: list[dict[str, Any]] = []
    for name, recipe in recipes(products.shape[1], len(products)).items():
        index = recipe.filled(products)
        first: tuple[np.ndarray, np.ndarray] | None = None
        for where, runtime in places(job.runtime):
            live = recipe.live(index, "encoder").on(runtime)
            if where != "CPU" and live.moved is None and not isinstance(recipe, GpuFlat):
                raise SystemExit(f"{name} did not move to {where}")
            found, scores = live.nearest(queries, K)
            first = first or (found, scores)
            pairs = zip(found, first[0], strict=True)
            same = np.mean([len(np.intersect1d(*pair)) / K for pair in pairs])
            batched, single = speed(partial(live.nearest, k=K), queries)
            row = {
                "index": name,
                "where": where,
                "exact@10 %": 100 * float(exact.recall(found).mean()),
                "same rows %": 100 * float(same),
                "score error": float(np.abs(scores - first[1]).max()),
                "batch q/s": batched,
                "single ms": single,
            }
            rows.append(row)
            print(row, flush=True)
        publish("gpus", data, "Indexes on GPUs", rows, note)  # what is cut off keeps its rows


if __name__ == "__main__":
    main()
