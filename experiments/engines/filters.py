"""Filtered search in engines: recall and milliseconds, from a half to a thousandth of the products.

Run: python experiments/engines/filters.py data=home_depot   (writes results/filters.<data>.md)

Which products may be found is drawn at random, once for each share, and planted as a field; words
and vectors are the real ones. Recall@10 is of the ten best among them by exact search (one that
scores like the last counts as well); dev queries, one after another.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.engine.base import Asked, Batch, Collection, Engine, Shape
from neurosearch.engine.conformance.world import SHARES, recall
from neurosearch.engine.files import name_of, owner_of
from neurosearch.engine.generation import Documents, load
from neurosearch.engine.local import Local
from neurosearch.engine.postgres import Postgres
from neurosearch.engine.qdrant_edge import QdrantEdge
from neurosearch.query.lexical import weighted
from neurosearch.retriever.engine import EngineHybrid, words_of
from neurosearch.task.base import Job

ENGINES: tuple[Engine, ...] = (Local(), QdrantEdge(), Postgres())
QUERIES = 200
RESULTS = Path(__file__).with_name("results")


def planted(documents: Documents, rng: Any, size: int) -> Iterator[Batch]:
    """All products, with a field for each share."""
    for batch in documents.batches(size):
        draws = rng.random((len(batch.numbers), len(SHARES)))
        fields: list[dict[str, Any]] = [
            {name: "yes" for name, x, p in zip(SHARES, row, SHARES.values(), strict=True) if x < p}
            for row in draws
        ]
        yield replace(batch, fields=fields)


def measured(
    collection: Collection, words: Sequence[Mapping[int, float]], vectors: np.ndarray, name: str
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """By words and by vectors: the lists of ten, and milliseconds of each query."""
    filters = {name: ["yes"]} if name else {}
    for by in ("words", "vectors"):
        found, times = [], []
        for place in range(-10, len(words)):  # ten to warm up
            row = slice(max(place, 0), max(place, 0) + 1)
            if by == "words":
                asked = Asked(10, words=words[row], filters=filters)
            else:
                asked = Asked(10, vectors=vectors[row], filters=filters)
            start = time.perf_counter()
            numbers, _ = collection.search(asked)
            if place >= 0:
                times.append(1000 * (time.perf_counter() - start))
                found.append(numbers[0])
        yield by, np.stack(found), np.array(times)


def main(overrides: Sequence[str]) -> None:
    """Load, measure, and write the table."""
    words_given = ["retriever=engine/hybrid", *overrides]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=words_given)
    job = Job.compose(config, words_given, 0, Path(tempfile.mkdtemp()))
    recipe, runtime = job.retriever, job.runtime
    assert isinstance(recipe, EngineHybrid)
    data = runtime.get(job.dataset)
    held = runtime.get(recipe.weights(job.dataset))
    products = np.asarray(runtime.get(recipe.encoder.product_embeddings(job.dataset)).vectors)
    embedded = recipe.encoder.query_embeddings(job.dataset, "dev", job.processing)
    vectors = np.asarray(runtime.get(embedded).vectors, dtype=np.float32)[:QUERIES]
    reading = words_of(recipe, job.dataset, runtime)
    assert reading is not None
    read = job.processing.reader(runtime).read(data.queries("dev").texts[:QUERIES])
    words = [reading.numbered(one) for one in weighted(reading.tokenizer, read)]
    documents = Documents(data.catalogue, held, products, None)
    shape = Shape(len(held.terms()), products.shape[1], dict.fromkeys(SHARES, "text"))
    whole = list(planted(documents, np.random.default_rng(0), 2_000))
    exact = {
        "words": np.stack([sums(documents, one) for one in words]),
        "vectors": vectors @ np.asarray(products[documents.rows], dtype=np.float32).T,
    }
    fields = [one for batch in whole for one in batch.fields]
    rows: list[dict[str, Any]] = []
    for engine in ENGINES:
        with engine.session(runtime) as session:
            name = name_of(owner_of(runtime), f"{7:024x}")
            collection = session.collection(name, shape)
            collection.create()
            for batch in whole:
                load(collection, batch)
            collection.finish()
            for share in ("", *SHARES):
                allowed = np.array([not share or share in one for one in fields], dtype=bool)
                for by, found, times in measured(collection, words, vectors, share):
                    row = {
                        "engine": engine.title,
                        "by": by,
                        "may be found": f"{100 * SHARES.get(share, 1.0):g} %",
                        "recall@10": recall(found, exact[by], 10, allowed, 1e-4),
                        "p50 ms": float(np.percentile(times, 50)),
                        "p95 ms": float(np.percentile(times, 95)),
                    }
                    rows.append(row)
                    print(row, flush=True)
            session.drop(name)
    publish(rows, data.name, len(products), len(words), overrides)


def sums(documents: Documents, words: Mapping[int, float]) -> np.ndarray:
    """N float64 by number: sums of weights; -inf without a term of the query."""
    assert documents.words is not None
    matrix = documents.words.by_product().tocsc()
    scores = np.asarray(matrix[:, list(words)] @ np.array(list(words.values())))
    by_number: np.ndarray = np.where(scores > 0, scores, -np.inf)[documents.rows]
    return by_number


def publish(
    rows: list[dict[str, Any]], data: str, products: int, queries: int, overrides: Sequence[str]
) -> None:
    """results/filters.<data>.csv has the rows, .md the table."""
    RESULTS.mkdir(exist_ok=True)
    frame = pl.DataFrame(rows)
    frame.write_csv(RESULTS / f"filters.{data}.csv", float_precision=4)
    text = f"## Filtered search in engines: {data}\n\n| {' | '.join(frame.columns)} |\n"
    text += "|:---|:---|" + "---:|" * (len(frame.columns) - 2) + "\n"
    for row in frame.iter_rows():
        cells = [f"{x:.3f}" if isinstance(x, float) else str(x) for x in row]
        text += f"| {' | '.join(cells)} |\n"
    text += f"\n{products:,} products, {queries} dev queries, one after another. Hardware: "
    text += f"{hardware()}. Commit: {git_commit()}. Command: python experiments/engines/filters.py "
    text += f"{' '.join(overrides)}\n"
    (RESULTS / f"filters.{data}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
