"""What `plaid.py` runs in an environment that has PyLate: its PLAID index on given token vectors.

    python plaid_peer.py FOLDER BITS K

FOLDER has products.npz and queries.npz (`vectors`, `offsets`); written to it: peer.BITS.npz with
the Q×K rows (-1 padded), and what building and each query took, in seconds, and its size in bytes.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch
from pylate import indexes  # type: ignore[import-not-found]

PROBES, FULL_SCORES = 4, 1024  # as many as ours looks at


def texts(path: Path) -> list[torch.Tensor]:
    """Token vectors, one tensor a text."""
    with np.load(path) as stored:
        vectors, offsets = torch.from_numpy(stored["vectors"]).float(), stored["offsets"]
    return [vectors[begin:end] for begin, end in itertools.pairwise(offsets)]


def main(folder: Path, bits: int, k: int) -> None:
    torch.set_num_threads(2)
    products, queries = texts(folder / "products.npz"), texts(folder / "queries.npz")
    index = indexes.PLAID(
        index_folder=str(folder / "plaid"),
        index_name=f"bits{bits}",
        override=True,
        nbits=bits,
        n_ivf_probe=PROBES,
        n_full_scores=FULL_SCORES,
        device="cpu",
        num_threads=2,
        show_progress=False,
    )
    start = time.perf_counter()
    index.add_documents([str(row) for row in range(len(products))], products)
    build = time.perf_counter() - start
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    seconds = np.empty(len(queries))
    index([queries[0]], k=k)  # warm
    for number, query in enumerate(queries):
        start = time.perf_counter()
        found = index([query], k=k)[0]
        seconds[number] = time.perf_counter() - start
        own = [int(result["id"]) for result in found][:k]
        rows[number, : len(own)] = own
    stored = [p for p in (folder / "plaid" / f"bits{bits}").rglob("*") if p.is_file()]
    size = sum(path.stat().st_size for path in stored)
    np.savez(folder / f"peer.{bits}.npz", rows=rows, seconds=seconds, build=build, bytes=size)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
