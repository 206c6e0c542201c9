"""Exact search over vectors on one and on several GPUs, in one run.

Ten million random unit vectors of 384 dimensions (float32), drawn again for nothing: each count of
devices searches the same ones. The time is that of a call, queries and results in main memory;
medians. `same` says whether rows and scores are those of one device, bit by bit, for all queries.
As CSV in results/sharded.csv.

    python experiments/speed/sharded.py 1,2              # counts of devices
    python experiments/speed/sharded.py 1,2 200000       # and another number of vectors
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.runtime import Runtime
from neurosearch.nn.exact_search import ExactSearch

VECTORS, WIDTH, K = 10_000_000, 384, 100
BATCHES = (1, 32, 1024)
CALLS = {1: 50, 32: 30, 1024: 7}


def drawn(count: int, seed: int, device: torch.device) -> np.ndarray:
    """Random unit vectors."""
    vectors = np.empty((count, WIDTH), dtype=np.float32)
    generator = torch.Generator(device).manual_seed(seed)
    for start in range(0, count, 1_000_000):
        size = min(1_000_000, count - start)
        part = torch.randn(size, WIDTH, generator=generator, device=device)
        vectors[start : start + size] = torch.nn.functional.normalize(part, dim=1).cpu().numpy()
    return vectors


def seconds(search: ExactSearch, queries: np.ndarray, calls: int) -> float:
    """Of a call: the median."""
    search.search(queries, K)
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        search.search(queries, K)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Measure, and write results/sharded.csv."""
    counts = [int(word) for word in sys.argv[1].split(",")]
    total = int(sys.argv[2]) if len(sys.argv) > 2 else VECTORS
    rows: list[dict[str, Any]] = []
    expected: tuple[np.ndarray, np.ndarray] | None = None
    first = Runtime(Path("outputs")).torch_device()
    vectors, queries = drawn(total, 0, first), drawn(max(BATCHES), 1, first)
    for count in counts:
        search = ExactSearch(vectors, Runtime(Path("outputs"), devices=count).torch_devices())
        found = search.search(queries, K)
        expected = expected or found
        same = all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        for batch in BATCHES:
            taken = seconds(search, queries[:batch], CALLS[batch])
            one = next((row for row in rows if row["batch"] == batch), None)
            rate = round(batch / taken, 1)
            gain = round(rate / one["queries_s"], 2) if one else 1.0
            case = {"vectors": total, "k": K, "batch": batch, "devices": count}
            figures = {"ms": round(1000 * taken, 3), "queries_s": rate, "gain": gain, "same": same}
            rows.append({**case, **figures, "hardware": hardware(), "commit": git_commit()})
            print(rows[-1], flush=True)
        del search
        if first.type == "cuda":
            torch.cuda.empty_cache()
    path = Path(__file__).parent / "results" / "sharded.csv"
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
