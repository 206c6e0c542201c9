"""Encoders in other runtimes and fewer bits: how far vectors, lists and nDCG move, how much faster.

Run: python experiments/precision/precision.py data=home_depot   (writes results/<data>.csv and .md)

Every variant encodes all products and the dev and test queries (`mixed` ones the queries alone, and
ask the network's own vectors), and retrieves exactly. Cosines and overlaps of the first ten are of
dev queries with torch in fp32. nDCG@10 is of test, and its difference is tested for equivalence
within MARGIN by two one-sided tests, Holm-corrected over the variants. Texts a second are of 2,000
products on all cores, tokenizer included, variants in turns.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.encoder.exported import ExportedNetwork
from neurosearch.evaluation.equivalence import equivalence
from neurosearch.evaluation.holm import holm
from neurosearch.task.base import Job

MARGIN, TEXTS, ROUNDS = 0.003, 2_000, 5
PLACE = "retriever.encoder"


def variant(backend: str, precision: str, *more: str) -> list[str]:
    """Overrides of an exported encoder."""
    key = f"encoder@{PLACE}=exported"
    words = [key, f"{PLACE}.backend={backend}", f"{PLACE}.precision={precision}"]
    return [*words, f"{PLACE}.refuse=false", *more]


VARIANTS: dict[str, list[str]] = {
    "torch fp32": [],
    "torch bf16": [f"{PLACE}.precision=bf16"],
    "ONNX fp32": variant("onnx", "fp32"),
    "ONNX fp16": variant("onnx", "fp16"),
    "ONNX int8, dynamic": variant("onnx", "int8"),
    "ONNX int8, calibrated": variant("onnx", "int8_static"),
    "ONNX int8, dynamic, mixed": variant("onnx", "int8", f"{PLACE}.queries_only=true"),
    "OpenVINO fp32": variant("openvino", "fp32"),
    "OpenVINO fp16": variant("openvino", "fp16"),
    "OpenVINO int8, calibrated": variant("openvino", "int8_static"),
    "packaged int8 (MiniLM)": [f"encoder@{PLACE}=zoo/minilm_int8"],
}


def job_of(overrides: list[str]) -> Job:
    """`retriever=dense` with overrides, as a job."""
    words = ["retriever=dense", *overrides]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=words)
    return Job.compose(config, words, 0, Path(tempfile.mkdtemp()))


def lists(job: Job, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query vectors, product vectors, and rows of each query's first ten products."""
    dense: Any = job.retriever
    queries = dense.encoder.query_embeddings(job.dataset, split, job.processing)
    asked = np.asarray(job.runtime.get(queries).vectors, dtype=np.float32)
    products = job.runtime.get(dense.encoder.product_embeddings(job.dataset)).vectors
    index = job.runtime.get(dense.index.build(dense.encoder.product_embeddings(job.dataset)))
    return asked, products, index.on(job.runtime).nearest(asked, 10)[0]


def quality(job: Job) -> pl.DataFrame:
    """nDCG@10 of each test query."""
    metrics = job.evaluation.metrics(job.retriever, job.dataset, job.processing)
    frame: pl.DataFrame = job.runtime.get(metrics)
    return frame.select("query_id", "nDCG@10").sort("query_id")


def speeds(lives: dict[str, Any], texts: list[str]) -> dict[str, list[float]]:
    """Texts a second of each variant, in turns; the order changes every round."""
    found: dict[str, list[float]] = {name: [] for name in lives}
    rng = np.random.default_rng(0)
    for live in lives.values():
        live.encode(texts[:64])
    for _ in range(ROUNDS):
        for place in rng.permutation(len(lives)):
            name = list(lives)[place]
            start = time.perf_counter()
            for first in range(0, len(texts), 500):
                lives[name].encode(texts[first : first + 500])
            found[name].append(len(texts) / (time.perf_counter() - start))
    return found


def main() -> None:
    """Measure, and write the results."""
    overrides = sys.argv[1:]
    data = next((w.split("=")[1] for w in overrides if w.startswith("data=")), "shop")
    rows: list[dict[str, Any]] = []
    lives: dict[str, Any] = {}
    for name, words in VARIANTS.items():
        job = job_of([*overrides, *words])
        dense: Any = job.retriever
        asked, products, found = lists(job, "dev")
        scores = quality(job)
        if not rows:
            first = asked, products, found, scores
            texts = job.runtime.get(job.dataset).catalogue.all_texts(("title",))
            texts = texts[:: max(1, len(texts) // TEXTS)][:TEXTS]
        cosines = np.einsum("nd,nd->n", asked, first[0])
        overlap = [len({*a} & {*b}) / 10 for a, b in zip(found, first[2], strict=True)]
        row: dict[str, Any] = {"variant": name, "mean cosine": float(cosines.mean())}
        row |= {"least cosine": float(cosines.min()), "overlap@10 %": 100 * float(np.mean(overlap))}
        if products is not first[1]:
            some = np.random.default_rng(0).permutation(len(products))[:5_000]
            parts = (np.asarray(x[np.sort(some)], dtype=np.float32) for x in (products, first[1]))
            row["products' least cosine"] = float(np.einsum("nd,nd->n", *parts).min())
        row["nDCG@10"] = float(scores["nDCG@10"].mean())
        tested = equivalence((scores["nDCG@10"] - first[3]["nDCG@10"]).to_numpy(), MARGIN)
        row |= {"difference": tested.mean, "low": tested.low, "high": tested.high, "p": tested.p}
        trained = dense.encoder.trained(job.dataset)
        if isinstance(trained, ExportedNetwork):
            manifest = job.runtime.store.manifest(trained)
            assert manifest is not None
            row["MB"] = manifest["details"]["MB"]
        rows.append(row)
        print(row, flush=True)
        if "mixed" not in name:
            live = dense.encoder.live(job.runtime, trained and job.runtime.get(trained))
            lives[name] = live.for_products()
    timed = speeds(lives, texts)
    base = np.array(timed["torch fp32"])
    for row in rows:
        own = timed.get(row["variant"])
        row["texts/s"] = None if own is None else float(np.median(own))
        row["x torch"] = None if own is None else float(np.median(np.array(own) / base))
    corrected = holm(np.array([row["p"] for row in rows[1:]]))
    for row, p in zip(rows[1:], corrected, strict=True):
        row["p"] = float(p)
        row["equivalent"] = "yes" if p < 0.05 else "not shown"
    write(rows, data, len(first[0]), first[3].height)


def write(rows: list[dict[str, Any]], data: str, dev: int, test: int) -> None:
    """results/<data>.csv and .md."""
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    frame.write_csv(folder / f"{data}.csv", float_precision=6)
    columns = ["variant", "mean cosine", "least cosine", "overlap@10 %", "nDCG@10", "difference"]
    columns += ["90 % interval", "p (Holm)", f"equivalent ±{MARGIN}", "MB", "texts/s", "x torch"]
    lines = [f"## precision: {data}\n", f"| {' | '.join(columns)} |"]
    lines.append("|:---|" + "---:|" * (len(columns) - 1))
    for row in frame.to_dicts():
        shown = [row["variant"], f"{row['mean cosine']:.5f}", f"{row['least cosine']:.4f}"]
        shown += [f"{row['overlap@10 %']:.1f}", f"{row['nDCG@10']:.4f}"]
        if row["variant"] == "torch fp32":
            shown += ["", "", "", ""]
        else:
            shown += [f"{row['difference']:+.4f}", f"[{row['low']:+.4f}, {row['high']:+.4f}]"]
            shown += [f"{row['p']:.2g}", row["equivalent"]]
        shown.append("" if row["MB"] is None else f"{row['MB']:.0f}")
        for key, form in (("texts/s", "{:,.0f}"), ("x torch", "{:.2f}")):
            shown.append("" if row[key] is None else form.format(row[key]))
        lines.append(f"| {' | '.join(shown)} |")
    text = "\n".join(lines) + "\n\n"
    text += f"Cosines and overlaps with torch fp32: {dev:,} dev queries, full catalogue, exact "
    text += f"search. nDCG@10: {test:,} test queries; equivalence by two one-sided t-tests within "
    text += f"±{MARGIN}, Holm-corrected. Texts a second: {TEXTS:,} titles, variants in turns, "
    text += f"median of {ROUNDS} rounds. Hardware: {hardware()}. Commit: {git_commit()}. Command: "
    text += f"python experiments/precision/precision.py {' '.join(sys.argv[1:])}\n"
    (folder / f"{data}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
