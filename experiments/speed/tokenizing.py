"""Fitting and assigning residual codes, beside FAISS and vector-quantize-pytorch, in one run.

4 levels of 256 codes over a catalogue's vectors, the same number of passes over them for all
(Lloyd's iterations, or epochs of moving averages). Alternating rounds, medians; rates count a
vector once a pass. Our plain k-means is FAISS's, so fitting beside its ResidualQuantizer compares
what is around it. A million random vectors are assigned from a memory-mapped file, each time in
a process of its own, whose peak memory is reported.

    python experiments/speed/tokenizing.py data=home_depot      # NEUROSEARCH_DATA is set
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from encoding import Row, write
from hydra import compose, initialize_config_module
from vector_quantize_pytorch import ResidualVQ

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.runtime import Runtime
from neurosearch.task.base import build
from neurosearch.tokenizer import residual
from neurosearch.tokenizer.kmeans import kmeans
from neurosearch.tokenizer.rqkmeans import RQKMeans

LEVELS, CODES, PASSES, ROUNDS, MANY = 4, 256, 10, 3, 1_000_000


def seconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compared(ours: Callable[[], Any], theirs: Callable[[], Any], count: int) -> tuple[float, float]:
    """Vectors a second of both, alternating."""
    taken: list[tuple[float, float]] = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
    mine, peer = (statistics.median(side) for side in zip(*taken, strict=True))
    return count / mine, count / peer


def faiss_quantizer(dimensions: int, beam: int) -> Any:
    """FAISS's ResidualQuantizer, trained level by level as ours is."""
    quantizer = faiss.ResidualQuantizer(dimensions, LEVELS, CODES.bit_length() - 1)
    quantizer.train_type = faiss.ResidualQuantizer.Train_default
    quantizer.max_beam_size, quantizer.cp.niter = beam, PASSES
    quantizer.cp.max_points_per_centroid = 1 << 30
    quantizer.verbose = False
    return quantizer


def fit_residual_vq(vectors: torch.Tensor, batch: int = 2048) -> ResidualVQ:
    """PASSES epochs of vector-quantize-pytorch's moving averages."""
    model = ResidualVQ(
        dim=vectors.shape[1], num_quantizers=LEVELS, codebook_size=CODES, kmeans_init=True
    ).train()
    with torch.no_grad():
        for _ in range(PASSES):
            for part in vectors[torch.randperm(len(vectors))].split(batch):
                model(part[None])
    return model


def peak(assigner: str, vectors: Path, books: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of one assignment in a process of its own.

    Memory is anonymous (RssAnon: no file pages), above what loading libraries and codebooks
    took, sampled every 10 ms.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        return alone.submit(_peak, assigner, vectors, books).result()


def _peak(assigner: str, path: Path, books_path: Path) -> tuple[float, float]:
    vectors, books = np.load(path, mmap_mode="r"), np.load(books_path)
    theirs = loaded(books, 1)
    np.asarray(books) @ books[0].T  # what arithmetic sets up once
    done = threading.Event()
    seen = [anonymous()]

    def watch() -> None:
        while not done.wait(0.01):
            seen.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    if assigner == "ours":
        taken = seconds(lambda: residual.assign(vectors, books))
    else:
        taken = seconds(lambda: theirs.compute_codes(np.ascontiguousarray(vectors)))
    done.set()
    watcher.join()
    return taken, max(seen) - seen[0]


def loaded(books: np.ndarray, beam: int) -> Any:
    """FAISS's quantizer with these codebooks."""
    quantizer = faiss_quantizer(books.shape[2], beam)
    faiss.copy_array_to_vector(books.ravel(), quantizer.codebooks)
    quantizer.is_trained = True
    return quantizer


def anonymous() -> float:
    """This process's RssAnon in megabytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def main() -> None:
    """Measure the cases and write the CSV."""
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=["tokenizer=rqkmeans", *sys.argv[1:]])
    runtime: Runtime = build(config, "runtime")
    data, encoder = build(config, "data"), build(config, "tokenizer").encoder
    points = np.array(runtime.get(encoder.product_embeddings(data.dataset())).vectors)
    tensor, count, dimensions = torch.from_numpy(points), len(points), points.shape[1]
    faiss.omp_set_num_threads(runtime.cpu_threads)
    torch.set_num_threads(runtime.cpu_threads)
    rows: list[Row] = []

    def add(case: str, peer: str, rates: tuple[float, float], unit: str) -> None:
        rows.append(Row("tokenizing", f"{case}, {data.label()}", rates[0], peer, rates[1], unit))
        print(rows[-1], flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = RQKMeans(levels=LEVELS, codes=CODES, iterations=PASSES)

        def fit() -> None:
            recipe.fit(points, folder, runtime)

        passes = count * PASSES
        unit = "vectors·passes/s"
        rates = compared(fit, lambda: faiss_quantizer(dimensions, 1).train(points), passes)
        add("fit 4×256", "FAISS ResidualQuantizer", rates, unit)
        rates = compared(fit, lambda: fit_residual_vq(tensor), passes)
        add("fit 4×256", "vector-quantize-pytorch ResidualVQ", rates, unit)
        plain = faiss.Kmeans(dimensions, CODES, niter=PASSES, max_points_per_centroid=1 << 30)
        rates = compared(
            lambda: kmeans(points, CODES, PASSES, 0, balanced=True),
            lambda: plain.train(points),
            passes,
        )
        add("one balanced k-means of 256", "FAISS Kmeans, not balanced", rates, unit)
        books = recipe.quantizer(folder).codebooks  # type: ignore[attr-defined]
        for beam in (1, 5):
            theirs = loaded(books, beam)
            rates = compared(
                lambda beam=beam: residual.assign(points, books, beam),
                lambda theirs=theirs: theirs.compute_codes(points),
                count,
            )
            add(f"assign, beam {beam}", "FAISS ResidualQuantizer", rates, "vectors/s")
        model = fit_residual_vq(tensor[:8192]).eval()

        def infer() -> None:
            with torch.no_grad():
                for part in tensor.split(8192):
                    model(part[None])

        rates = compared(lambda: residual.assign(points, books), infer, count)
        add("assign, beam 1", "vector-quantize-pytorch ResidualVQ", rates, "vectors/s")

        path = folder / "many.npy"
        many = np.lib.format.open_memmap(path, "w+", np.float32, (MANY, dimensions))
        rng = np.random.default_rng(0)
        for start in range(0, MANY, 50_000):
            many[start : start + 50_000] = rng.standard_normal((50_000, dimensions), np.float32)
        many.flush()
        del many
        np.save(folder / "books.npy", books)
        taken = [peak(name, path, folder / "books.npy") for name in ("ours", "faiss") * ROUNDS]
        mine, peer = (np.median(taken[side::2], axis=0).tolist() for side in (0, 1))
        case = f"assign {MANY:,} × {dimensions} from a file"
        for place, unit in ((0, "seconds"), (1, "MB at the peak")):
            entry = Row(
                "tokenizing", case, mine[place], "FAISS ResidualQuantizer", peer[place], unit
            )
            rows.append(entry)
            print(entry, flush=True)
    write("tokenizing.csv", rows)


if __name__ == "__main__":
    main()
