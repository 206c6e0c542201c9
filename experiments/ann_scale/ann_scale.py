"""From 300 thousand to ten million simulated products on this machine: seconds, memory, bytes.

Run: python experiments/ann_scale/ann_scale.py 300000 1200000 10000000
     (writes results/shop.csv, .md and .svg; a run replaces the rows of its sizes)

Every stage is one command under /usr/bin/time -v, whose peak memory counts what the process maps.
Bytes by formula are those of `Index.bytes_a_vector`; seconds by formula count multiplications and
divide them by what this machine does of them in a second, measured first (METHODS_ann B).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.artifact import MANIFEST
from neurosearch.core.machine import git_commit, hardware
from neurosearch.index.ivfpq import IVFPQ
from neurosearch.index.refine import Refine

WIDTH, PARTS, PROBES, CANDIDATES = 256, 64, 64, 400
QUERIES = 2_000
RESULTS = Path(__file__).with_name("results")


def cells_of(count: int) -> int:
    """Lists: 4 sqrt N, rounded to a power of two, at most what two cores train in minutes."""
    return min(8192, 2 ** round(float(np.log2(4 * count**0.5))))


def recipe_of(count: int) -> Refine:
    """The index of so many products."""
    coarse = IVFPQ(cells=cells_of(count), probes=PROBES, parts=PARTS)
    return Refine(coarse=coarse, code="sq8", candidates=CANDIDATES)


def commands(count: int) -> dict[str, list[str]]:
    """The overrides of each stage; a later one reuses what earlier ones have built."""
    data = ["data=shop", f"data.n_products={count}", f"data.n_queries={QUERIES}"]
    data += ["data.images=false", "data.n_sessions=0", "name=ann_scale"]
    index = "retriever.index"
    dense = [
        *("retriever=dense", "encoder@retriever.encoder=hashing", "retriever.encoder.stored=half"),
        *(f"index@{index}=refine", f"index@{index}.coarse=ivfpq", f"{index}.code=sq8"),
        *(f"{index}.coarse.cells={cells_of(count)}", f"{index}.coarse.probes={PROBES}"),
        *(f"{index}.coarse.parts={PARTS}", f"{index}.candidates={CANDIDATES}"),
    ]
    return {
        "BM25": [*data, "retriever=bm25"],
        "dense": [*data, *dense],
    }


def timed(overrides: list[str]) -> tuple[float, float]:
    """Seconds and peak resident MB of one command; raises where it fails."""
    command = ["/usr/bin/time", "-v", sys.executable, "-m", "neurosearch", *overrides]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    print(done.stdout[-1500:], flush=True)
    peak = re.search(r"Maximum resident set size \(kbytes\): (\d+)", done.stderr)
    assert peak is not None
    return seconds, int(peak[1]) / 1024


def manifests(outputs: Path, begun: float) -> dict[str, dict[str, Any]]:
    """Of what was built or reused since a time, by kind; of embeddings the products'."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((outputs / "artifacts").glob(f"*/*/{MANIFEST}")):
        if path.parent.stat().st_mtime < begun:
            continue
        manifest = json.loads(path.read_text())
        size = sum(entry[0] for entry in manifest["files"].values())
        known = found.get(manifest["kind"])
        if known is None or size > known["bytes"]:
            found[manifest["kind"]] = {**manifest, "bytes": size}
    return found


def rate() -> float:
    """Multiplications and additions that this machine does in a second (single precision)."""
    one = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    one @ one
    start = time.perf_counter()
    for _ in range(5):
        one @ one
    return 5 * 2 * 2048**3 / (time.perf_counter() - start)


def predicted(count: int, speed: float) -> dict[str, float]:
    """Bytes a product and seconds of the index, by formula."""
    cells, sample = cells_of(count), min(count, max(65_536, 64 * cells_of(count)))
    kmeans = 10 * 2 * sample * cells * WIDTH / speed
    assign = 2 * count * cells * WIDTH / speed
    # A part's codebook has 256 entries: 256 products of WIDTH numbers a vector, 25 iterations.
    codebooks = 25 * 2 * min(sample, 65_536) * 256 * WIDTH / speed
    coding = 2 * count * 256 * WIDTH / speed
    seconds = kmeans + assign + codebooks + coding
    return {
        "index bytes, formula": recipe_of(count).bytes_a_vector(count, WIDTH),
        "index s, formula": seconds,
    }


def measured(count: int, outputs: Path) -> dict[str, Any]:
    """One row: all stages of a size."""
    row: dict[str, Any] = {"products": count, **predicted(count, rate())}
    begun = time.time()
    stages = commands(count)
    row["BM25 command s"], row["BM25 peak MB"] = timed(stages["BM25"])
    row["dense command s"], row["dense peak MB"] = timed(stages["dense"])
    built = manifests(outputs, begun)
    row |= {
        "catalogue s": built["data"]["seconds"],
        "catalogue bytes": built["data"]["bytes"] / count,
        "Lucene s": built["lucene"]["seconds"],
        "Lucene bytes": built["lucene"]["bytes"] / count,
        "vectors s": built["embeddings"]["seconds"],
        "vectors bytes": built["embeddings"]["bytes"] / count,
        "index s": built["index"]["seconds"],
        "index bytes": built["index"]["bytes"] / count,
    }
    for path in sorted((outputs / "jobs" / "ann_scale").rglob("record.json")):
        if path.stat().st_mtime < begun:
            continue
        record = json.loads(path.read_text())
        name = "dense" if "retriever=dense" in record["overrides"] else "BM25"
        latency = {key: record["latency"][key] for key in ("p50 ms", "p99 ms", "batch q/s")}
        row |= {f"{name} {key}": value for key, value in latency.items()}
        means = pl.read_parquet(path.with_name("metrics.parquet")).select(pl.mean("nDCG@10"))
        row[f"{name} nDCG@10"] = means.item()
    scored = built["scored"]["details"]
    row |= {key: scored[key] for key in ("scored %", "exact@10 %", "exact@100 %")}
    return {**row, "hardware": hardware(), "commit": git_commit()}


def main() -> None:
    """Measure the sizes named, and write the results."""
    outputs = Path(os.environ.get("NEUROSEARCH_OUTPUTS", "outputs")).absolute()
    for count in [int(word) for word in sys.argv[1:]] or [300_000]:
        row = measured(count, outputs)
        print(json.dumps(row, indent=1), flush=True)
        write(pl.DataFrame([row]))


def write(frame: pl.DataFrame) -> None:
    """results/shop.csv has everything, shop.md the table, shop.svg the plot."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "shop.csv"
    if path.exists():
        before = pl.read_csv(path).join(frame, on="products", how="anti")
        frame = pl.concat([before, frame], how="diagonal_relaxed")
    frame = frame.sort("products")
    frame.write_csv(path, float_precision=4)
    shown = {
        "products": "{:,.0f}",
        **{f"{name} s": "{:,.0f}" for name in ("catalogue", "Lucene", "vectors", "index")},
        **{"index s, formula": "{:,.0f}", "BM25 peak MB": "{:,.0f}", "dense peak MB": "{:,.0f}"},
        **{f"{name} bytes": "{:,.1f}" for name in ("Lucene", "vectors", "index")},
        **{"index bytes, formula": "{:,.1f}", "exact@10 %": "{:.1f}", "scored %": "{:.2f}"},
        **{"dense p50 ms": "{:.2f}", "dense batch q/s": "{:,.0f}", "BM25 p50 ms": "{:.2f}"},
        **{"dense nDCG@10": "{:.3f}", "BM25 nDCG@10": "{:.3f}"},
    }
    rows = [[form.format(row[name]) for name, form in shown.items()] for row in frame.to_dicts()]
    text = "## ann_scale: shop, simulated\n\n"
    text += f"| {' | '.join(shown)} |\n|{'---:|' * len(shown)}\n"
    text += "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n\n"
    text += "![](shop.svg)\n\n"
    text += f"Hashed vectors of {WIDTH} dimensions in half precision; index: lists of {PARTS}-byte "
    text += f"codes, {PROBES} probed, {CANDIDATES} candidates scored again by 8-bit numbers; "
    text += f"{QUERIES:,} queries, of which test's are evaluated; catalogue protocol. Simulated: "
    text += "nDCG says nothing about real shops. Bytes are per product; peaks are the largest "
    text += "resident sets of whole commands by /usr/bin/time -v, mapped files included "
    text += "(the Lucene process has its own heap of 2 GB and is not in them). "
    text += f"Hardware: {'; '.join(frame['hardware'].unique())}. Commit: "
    text += f"{', '.join(frame['commit'].unique(maintain_order=True))}. Command: python "
    text += f"experiments/ann_scale/ann_scale.py {' '.join(map(str, frame['products']))}\n"
    (RESULTS / "shop.md").write_text(text, encoding="utf-8")
    draw(frame)


def draw(frame: pl.DataFrame) -> None:
    """Measured and predicted seconds and bytes by products, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    counts = frame["products"]
    for name in ("catalogue s", "Lucene s", "vectors s", "index s"):
        left.plot(counts, frame[name], marker="o", label=name.removesuffix(" s"))
    left.plot(counts, frame["index s, formula"], "k--", label="index, by formula")
    for name in ("Lucene bytes", "vectors bytes", "index bytes"):
        right.plot(counts, frame[name] * counts / 1e9, marker="o", label=name[: -len(" bytes")])
    right.plot(counts, frame["index bytes, formula"] * counts / 1e9, "k--", label="by formula")
    right.plot(counts, frame["dense peak MB"] / 1024, "rs:", label="peak memory, dense")
    for axis, title in ((left, "seconds"), (right, "GB")):
        axis.set(xscale="log", yscale="log", xlabel="products", ylabel=title)
        axis.legend(fontsize=7)
    figure.savefig(RESULTS / "shop.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
