"""Our indexes beside other libraries' graphs, in turns on one thread, over the same vectors.

Run: python experiments/ann/peers.py data=home_depot   (writes results/peers.<data>.md)

Graphs have 32 links a node (64 on the lowest layer) and 200 candidates while they are built; every
system is taken at the least effort of its ladder that finds 95 % of dev queries' ten nearest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import faiss
import numpy as np
from vectors import job_of, publish, vectors_of

from neurosearch.index import tuning
from neurosearch.index.base import Index
from neurosearch.index.exact import Exact
from neurosearch.index.fastscan import FastScan
from neurosearch.index.flat import Flat
from neurosearch.index.hnsw import HNSW
from neurosearch.index.ivf import IVF
from neurosearch.index.refine import Refine
from neurosearch.index.scann import Scann

TARGET, QUERIES = 0.95, 2_000
EFFORTS = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Peer:
    """Another library's index, asked as ours are."""

    ask: Callable[[np.ndarray, int], np.ndarray]

    def nearest(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.ask(vectors, k), np.empty(0)


def usearch(products: np.ndarray) -> Sequence[Peer]:
    from usearch.index import Index as Usearch

    index = Usearch(
        ndim=products.shape[1], metric="ip", dtype="f32", connectivity=32, expansion_add=200
    )
    index.add(np.arange(len(products)), products, threads=1)

    def at(effort: int) -> Peer:
        def ask(vectors: np.ndarray, k: int) -> np.ndarray:
            index.expansion_search = effort
            keys = np.asarray(index.search(vectors, k, threads=1).keys, dtype=np.int64)
            return keys.reshape(len(vectors), -1)

        return Peer(ask)

    return [at(effort) for effort in EFFORTS]


def pynndescent(products: np.ndarray) -> Sequence[Peer]:
    from pynndescent import NNDescent

    index = NNDescent(products, metric="cosine", n_neighbors=32, random_state=0, n_jobs=1)
    index.prepare()

    def at(epsilon: float) -> Peer:
        return Peer(lambda vectors, k: np.asarray(index.query(vectors, k, epsilon)[0], np.int64))

    return [at(epsilon) for epsilon in (0.05, 0.1, 0.2, 0.3, 0.4)]


def ours(recipe: Index) -> Callable[[np.ndarray], Sequence[Any]]:
    """Ladders of one of our recipes, the least effort first."""

    def built(products: np.ndarray) -> Sequence[Any]:
        held = recipe.filled(products)
        return [
            step.live(held, "peers") for ladder in tuning.efforts(recipe)[-1:] for step in ladder
        ]

    return built


def main() -> None:
    """Measure, and write the table."""
    missing = [name for name in ("usearch", "pynndescent") if find_spec(name) is None]
    if missing:
        raise SystemExit(f"{' and '.join(missing)} missing: pip install -e '.[speed]'")
    overrides = sys.argv[1:]
    data = next((w.split("=")[1] for w in overrides if w.startswith("data=")), "shop")
    products, queries = vectors_of(job_of(overrides))
    queries = queries[:: max(1, -(-len(queries) // QUERIES))]
    exact = Exact.of(queries, products, 10)
    faiss.omp_set_num_threads(1)
    lists: dict[str, Any] = {"cells": 1024, "probes": 1}
    quarter = products.shape[1] // 4
    systems: dict[str, Callable[[np.ndarray], Sequence[Any]]] = {
        "flat": ours(Flat()),
        "ivf": ours(IVF(**lists)),
        "hnsw": ours(HNSW(neighbours=32, construction=200)),
        "refine (fastscan)": ours(Refine(coarse=FastScan(**lists, parts=quarter), code="half")),
        "scann": ours(Scann(**lists)),
        "usearch HNSW": usearch,
        "pynndescent": pynndescent,
    }
    rows, taken = [], []
    for name, build in systems.items():
        start = time.perf_counter()
        ladder = build(products)
        seconds = time.perf_counter() - start
        for step in ladder:
            recall = float(exact.recall(step.nearest(queries, 10)[0]).mean())
            if recall >= TARGET:
                break
        taken.append(step)
        rows.append({"system": name, "recall@10": recall, "build s": seconds})
        print(rows[-1], flush=True)
    for row, timed in zip(rows, tuning.timings(taken, queries, 10, 0), strict=True):
        row |= {"times flat": timed["times flat"], **{k: timed[k] for k in ("p50 ms", "p99 ms")}}
        row |= {"batch q/s": timed["batch q/s"]}
    note = f"{len(products):,} products, {len(queries):,} dev queries, one thread, k = 10, systems "
    note += "in turns. The build of pynndescent compiles its code first."
    publish("peers", data, "Beside other libraries", rows, note)


if __name__ == "__main__":
    main()
