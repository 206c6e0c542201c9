"""Exact MaxSim beside the padded einsum that it replaces: time, and peak memory beyond the inputs.

Random unit vectors with the lengths of titles (4 to 64 tokens, most of them short), queries of 32.
Each side runs in a process of its own, so that its peak is its own; results/maxsim.csv.

    python experiments/speed/maxsim.py
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from encoding import Row, write

from neurosearch.nn.maxsim import exact_maxsim, naive_maxsim
from neurosearch.nn.ragged import Ragged

QUERIES, LENGTH, WIDTH, K = 8, 32, 128, 100
CASES = (2_000, 10_000)
ROUNDS = 5


def inputs(products: int) -> tuple[Ragged, Ragged]:
    """Queries and products."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(3.0, 6.0, products).astype(int) + 4, 4, 64)
    generator = torch.Generator().manual_seed(0)

    def ragged(counts: np.ndarray) -> Ragged:
        vectors = torch.randn(int(counts.sum()), WIDTH, generator=generator)
        unit = torch.nn.functional.normalize(vectors, dim=1)
        return Ragged(unit, np.concatenate([[0], np.cumsum(counts)]))

    return ragged(np.full(QUERIES, LENGTH)), ragged(lengths)


def child(side: str, products: int) -> None:
    """Print seconds a call, peak MB beyond the inputs, and the rows of the best products."""
    queries, documents = inputs(products)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def once() -> np.ndarray:
        if side == "maxsim-cpu":
            return theirs(queries, documents)
        if side == "ours":
            return exact_maxsim(queries, documents, K)[0]
        return naive_maxsim(queries, documents).topk(K, dim=1).indices.numpy()

    seconds = []
    with torch.inference_mode():
        rows = once()
        for _ in range(ROUNDS):
            start = time.perf_counter()
            once()
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    told = {"seconds": statistics.median(seconds), "peak": peak, "rows": rows[:, :10].tolist()}
    print(json.dumps(told))


def theirs(queries: Ragged, documents: Ragged) -> np.ndarray:
    """The Rust library's variable-length kernel, a query at a time."""
    import maxsim_cpu

    vectors = documents.vectors.numpy()
    lists = [vectors[a:b] for a, b in itertools.pairwise(documents.offsets)]
    found = []
    for begin, end in itertools.pairwise(queries.offsets):
        scores = maxsim_cpu.maxsim_scores_variable(queries.vectors[begin:end].numpy(), lists)
        found.append(np.argsort(-np.asarray(scores))[:K])
    return np.stack(found)


def main() -> None:
    """Both sides in turn, each in its own process."""
    rows = []
    for products in CASES:
        found = {}
        sides = ["ours", "naive"]
        if importlib.util.find_spec("maxsim_cpu") is not None:
            sides.append("maxsim-cpu")
        for side in sides:
            command = [sys.executable, "-W", "ignore", __file__, side, str(products)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[side] = json.loads(done.stdout)
        same = np.array(found["ours"]["rows"]) == np.array(found["naive"]["rows"])
        assert same.mean() > 0.95, "the two disagree"
        case = f"{QUERIES} queries of {LENGTH} tokens, {products:,} products, cpu"
        rates = [QUERIES / found[side]["seconds"] for side in ("ours", "naive")]
        rows.append(Row("MaxSim", case, rates[0], "padded einsum", rates[1], "queries/s"))
        if "maxsim-cpu" in found:
            rate = QUERIES / found["maxsim-cpu"]["seconds"]
            rows.append(Row("MaxSim", case, rates[0], "maxsim-cpu 0.1.0", rate, "queries/s"))
        # Less is better: the ratio is theirs by ours, of which less than a megabyte counts as one.
        peaks = [1e3 / max(found[side]["peak"], 1.0) for side in ("ours", "naive")]
        rows.append(Row("MaxSim memory", case, peaks[0], "padded einsum", peaks[1], "1/GB"))
        for row in rows[-2:]:
            print(row, flush=True)
    write("maxsim.csv", rows)


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2])) if len(sys.argv) == 3 else main()
