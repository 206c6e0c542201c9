"""Filtered search: recall and time of every index where a half to a thousandth may be found.

Run: python experiments/ann/filters.py data=home_depot   (writes results/filters.<data>.md)

Dev queries; which products may be found is drawn at random, once for each share. Recall@10 is of
the ten nearest among them, by exact search. A subset of few products (20,000, or 2 % of all) is
scored as a whole, of a larger one the index is searched with a selector; so `FEW` is set to 2 % in
a second pass, as it would be in a catalogue of a million.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
from vectors import job_of, publish, vectors_of

from neurosearch.index import parameters
from neurosearch.index.base import Index
from neurosearch.index.binary import Binary
from neurosearch.index.exact import Exact
from neurosearch.index.fastscan import FastScan
from neurosearch.index.flat import Flat
from neurosearch.index.hnsw import HNSW
from neurosearch.index.ivf import IVF
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.rabitq import RaBitQ
from neurosearch.index.refine import Refine
from neurosearch.index.scann import Scann
from neurosearch.index.sq import SQ

SHARES = (0.5, 0.1, 0.01, 0.001)
QUERIES = 300


def recipes(width: int) -> dict[str, Index]:
    """One of each family, with the usual effort."""
    lists: dict[str, Any] = {"cells": 256, "probes": 32}
    quarter = width // 4
    return {
        "flat": Flat(),
        "sq (8 bits)": SQ(),
        "sq (4 bits)": SQ(bits=4),
        "binary": Binary(),
        "ivf": IVF(**lists),
        "hnsw": HNSW(search=128),
        "ivfpq": IVFPQ(**lists, parts=width // 8, bits=4),
        "refine (ivfpq)": Refine(coarse=IVFPQ(**lists, parts=quarter, bits=4), candidates=200),
        "refine (fastscan)": Refine(coarse=FastScan(**lists, parts=quarter), candidates=200),
        "refine (rabitq)": Refine(coarse=RaBitQ(**lists), code="half", candidates=200),
        "scann": Scann(**lists, candidates=200),
    }


def main() -> None:
    """Measure, and write the table."""
    overrides = sys.argv[1:]
    data = next((w.split("=")[1] for w in overrides if w.startswith("data=")), "shop")
    products, queries = vectors_of(job_of(overrides))
    queries = queries[:: max(1, len(queries) // QUERIES)][:QUERIES]
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    subsets = {share: rng.random(len(products)) < share for share in SHARES}
    if len(products) * SHARES[-1] < 3:
        raise SystemExit(f"{len(products):,} products: a thousandth of them is too few to measure")
    exact = {}
    for share, subset in subsets.items():
        inside = products[subset]
        exact[share] = replace(Exact.of(queries, inside, min(10, len(inside))), products=products)
    rows = []
    for name, recipe in recipes(products.shape[1]).items():
        live = recipe.live(recipe.filled(products), "encoder")
        live = replace(live, vectors=products)
        for how, few in (("of a small catalogue", 20_000), ("of a large one", 0)):
            parameters.FEW = few
            row: dict[str, Any] = {"index": name, "subsets": how}
            for share, subset in subsets.items():
                start = time.perf_counter()
                found, _ = live.nearest(queries, exact[share].k, subset)
                seconds = time.perf_counter() - start
                row[f"recall at {100 * share:g} %"] = float(exact[share].recall(found).mean())
                row[f"ms at {100 * share:g} %"] = 1000 * seconds / len(queries)
            rows.append(row)
            print(row, flush=True)
    note = f"{len(products):,} products, {len(queries)} dev queries in one batch, one thread. "
    note += "A small catalogue scores subsets of up to 20,000 products as a whole, a large one "
    note += "those of up to 2 %."
    publish("filters", data, "Filtered search", rows, note)


if __name__ == "__main__":
    main()
