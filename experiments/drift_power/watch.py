"""Does the monitor alarm when it should, and only then? Quiet and drifted windows of 1,000 queries.

Run: python experiments/drift_power/watch.py data=home_depot   (writes results/watch.csv and .md)
     `quiet=100 drifted=20` windows; other words are overrides.

Simulated users ask a data set's train queries (`detector.power`), a window of 1,000 against a
reference of 5,000, through the rule of `task=monitor`: features, detectors, correction and level.
A stale index and a swapped encoder are checked once each, as the monitor checks them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from hydra import compose, initialize_config_module

from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.types import Catalogue
from neurosearch.core.vectors import Embeddings
from neurosearch.detector.power import Pool, planted, pool_of, wilson
from neurosearch.encoder.base import LiveEncoder
from neurosearch.monitoring import health
from neurosearch.monitoring.drift import Detectors, drifts
from neurosearch.monitoring.traffic import SCHEMA
from neurosearch.query.none import NoProcessing
from neurosearch.query.typos import Typos
from neurosearch.retriever.dense import Dense
from neurosearch.task.base import Job, build
from neurosearch.task.monitor import Monitor

WINDOW, REFERENCE = 1_000, 5_000
KINDS = ("topic", "length", "typos")
STRENGTHS = (0.1, 0.2)


class Turned(LiveEncoder):
    """Another encoder: the same vectors, turned."""

    def __init__(self, inner: LiveEncoder) -> None:
        self._inner, self.dimensions = inner, inner.dimensions
        rng = np.random.default_rng(0)
        self._turn = np.linalg.qr(rng.normal(size=(self.dimensions,) * 2))[0].astype(np.float32)

    def encode(self, texts: list[str]) -> np.ndarray:  # type: ignore[override]
        turned: np.ndarray = self._inner.encode(texts) @ self._turn
        return turned


class Traffic:
    """Frames of simulated queries, as a log would have them."""

    def __init__(self, job: Job, dense: Dense) -> None:
        runtime = job.runtime
        texts = runtime.get(job.dataset).queries("train").texts
        self.texts = [texts, Typos().process(texts)]
        embeddings = [
            runtime.get(dense.encoder.query_embeddings(job.dataset, "train", query)).vectors
            for query in (NoProcessing(), Typos())
        ]
        self.vectors = [np.asarray(one, dtype=np.float32) for one in embeddings]
        index = runtime.get(dense.index.build(dense.encoder.product_embeddings(job.dataset)))
        found = [index.search(Embeddings(one, index.encoder), 1)[1][:, 0] for one in self.vectors]
        self.scores = [one.astype(np.float64) for one in found]
        self.pool: Pool = pool_of(texts, *self.vectors, seed=0)

    def frame(
        self, count: int, rng: np.random.Generator, kind: str | None, share: float, day: str
    ) -> tuple[pl.DataFrame, np.ndarray]:
        """Queries of users: `numbers`, and one row each; drift touches a share of them."""
        queries, users = self.pool.asked(count, rng)
        changed = rng.random(count) < share
        queries = planted(self.pool, kind, queries, changed, rng)
        side = np.where(changed & (kind == "typos"), 1, 0)
        rows = [
            (
                *(self.texts[s][q], f"user {u}", day, len(self.texts[s][q].split()), 10),
                *(float(self.scores[s][q]), None, "dense", "f", None),
            )
            for q, s, u in zip(queries, side, users, strict=True)
        ]
        return pl.DataFrame(rows, schema=SCHEMA, orient="row"), self.vectors_of(queries, side)

    def vectors_of(self, queries: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Vectors of queries with or without typing errors."""
        return np.where(side[:, None] == 1, self.vectors[1][queries], self.vectors[0][queries])


def alarmed(traffic: Traffic, monitor: Monitor, kind: str | None, share: float, seed: int) -> bool:
    """Whether one window alarms."""
    rng = np.random.default_rng([seed, len(kind or ""), int(100 * share)])
    reference, before = traffic.frame(REFERENCE, rng, None, 0.0, "2026-01-01")
    window, after = traffic.frame(WINDOW, rng, kind, share, "2026-01-02")
    known = iter((before, after))
    detectors = Detectors(monitor.numbers, monitor.labels, monitor.vectors)
    found = drifts(
        reference, window, detectors, monitor.limits.level, rng, lambda texts: next(known)
    )
    return any(one.alarm for one in found)


def planted_faults(job: Job, dense: Dense) -> list[tuple[str, str]]:
    """The checks of a stale index and of a swapped encoder: what they say."""
    runtime = job.runtime
    catalogue = runtime.get(job.dataset).catalogue
    frame = pl.read_parquet(catalogue.path)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for share in (0.0, 0.02, 0.1):
            changed = np.random.default_rng(0).random(frame.height) < share
            titles = pl.when(pl.Series(changed)).then(pl.col("title") + " new").otherwise("title")
            path = Path(folder) / "now.parquet"
            frame.with_columns(title=titles).write_parquet(path)
            (check,) = health.staleness(catalogue.path, Catalogue(path), 0.05)
            said = f"{check.value:.1%} differ: {'alarm' if check.alarm else 'ok'}"
            lines.append((f"stale index, {100 * share:g} % of the products changed", said))
    encoder = dense.encoder
    embeddings = runtime.get(encoder.product_embeddings(job.dataset))
    index = runtime.get(dense.index.build(encoder.product_embeddings(job.dataset)))
    live = encoder.loaded(runtime, job.dataset)
    texts = catalogue.all_texts(encoder.fields, encoder.separator)
    served = health.ServedIndex(index, embeddings)
    for name, one in (("the same encoder", live), ("a swapped encoder", Turned(live))):
        check = health.encoder_checks(served, encoder.identity(job.dataset), one, texts)[1]
        said = f"least cosine {check.value:.3f}: {'alarm' if check.alarm else 'ok'}"
        lines.append((name, said))
    return lines


def main() -> None:
    """Count alarms, and write the results."""
    words = dict(w.split("=", 1) for w in sys.argv[1:] if w.startswith(("quiet=", "drifted=")))
    rest = [w for w in sys.argv[1:] if w.split("=", 1)[0] not in ("quiet", "drifted")]
    overrides = [*rest, "retriever=dense", "task=monitor"]
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=overrides)
    job = Job.compose(config, overrides, 0, Path(tempfile.gettempdir()))
    monitor, dense = build(config, "task"), job.retriever
    assert isinstance(monitor, Monitor) and isinstance(dense, Dense)
    traffic = Traffic(job, dense)
    cells: list[tuple[str | None, float, int]] = [(None, 0.0, int(words.get("quiet", 100)))]
    cells += [(k, s, int(words.get("drifted", 20))) for k in KINDS for s in STRENGTHS]
    lines = []
    for kind, share, count in cells:
        hits = sum(alarmed(traffic, monitor, kind, share, seed) for seed in range(count))
        low, high = wilson(hits, count)
        name = "quiet" if kind is None else f"{kind}, {100 * share:g} % of the queries"
        lines.append((name, f"{hits} of {count} windows alarm [{low:.1%}, {high:.1%}]"))
        print(*lines[-1], flush=True)
    lines += planted_faults(job, dense)
    folder = Path(__file__).with_name("results")
    pl.DataFrame(lines, schema=["what", "found"], orient="row").write_csv(folder / "watch.csv")
    text = "## The monitor's rule\n\n| what | found |\n|:---|:---|\n"
    text += "\n".join(f"| {what} | {found} |" for what, found in lines) + "\n\n"
    text += f"Simulated users over the train queries of {job.data.label()}. Windows of "
    text += f"{WINDOW:,} queries against {REFERENCE:,}; level {monitor.limits.level} after "
    text += f"Benjamini-Hochberg; {job.retriever.label()}. Hardware: {hardware()}. Commit: "
    text += f"{git_commit()}. Command: python experiments/drift_power/watch.py "
    text += f"{' '.join(sys.argv[1:])}\n"
    (folder / "watch.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
