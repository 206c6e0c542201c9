"""How often a detector sees planted drift, and how often it alarms where nothing has changed.

Users are simulated over a data set's own queries: each asks one query and more that resemble it, so
the queries of one user are alike. Windows are drawn again and again, quiet ones and ones with drift
of a kind and a strength (the share of the window's queries that it touches).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.detector.base import LABELS, NUMBERS, Detector, Sample

KINDS = ("topic", "typos", "length", "encoder")
STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.4)
QUIET, SINGLE = "false alarms %", "false alarms %, queries dealt singly"
BOUNDS = ("false alarms %, low", "false alarms %, high")
METRICS = (
    *(QUIET, *BOUNDS, SINGLE, "compare ms"),
    *(f"{kind} {100 * strength:g} %" for kind in KINDS for strength in STRENGTHS),
)
TOPICS = 16  # clusters of the queries
NEAR = 20  # queries that a user's further queries are drawn from
LOYAL = 0.5  # chance that a further query is one of those
MORE = 0.5  # chance of a further query


@dataclass(frozen=True)
class Simulation(Recipe):
    """Attributes:
    size: queries of each side.
    runs: windows of each kind and strength; four times as many quiet ones.
    level: the p-value at which there is an alarm.
    seed: of users, drift and permutations.
    """

    size: int = setting(500, least=100)
    runs: int = setting(100, least=1)
    level: float = setting(0.01, above=0, below=1)
    seed: int = 0


@dataclass(frozen=True)
class Pool:
    """Queries that users ask: N vectors, the same with typing errors, word counts and topics."""

    vectors: np.ndarray
    mistyped: np.ndarray
    words: np.ndarray
    topics: np.ndarray
    near: np.ndarray

    def asked(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Queries of simulated users.

        Args:
            count: queries.
            rng: of users and queries.

        Returns:
            Numbers of queries, and of their users.
        """
        first = rng.integers(len(self.vectors), size=count)
        begins = rng.random(count) >= MORE
        begins[0] = True
        users = np.cumsum(begins) - 1
        start = np.flatnonzero(begins)[users]  # the first query of each one's user
        close = self.near[first[start], rng.integers(NEAR, size=count)]
        loyal = ~begins & (rng.random(count) < LOYAL)
        return np.where(loyal, close, first), users


@dataclass(frozen=True)
class Power(Artifact[dict[str, float]]):
    """power.json: rates of alarms by kind and strength, in per cent (METRICS)."""

    kind: ClassVar[str] = "power"
    data: Artifact[Dataset]
    vectors: Artifact[Embeddings]
    mistyped: Artifact[Embeddings]
    split: str
    detector: Detector
    simulation: Simulation

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import time

        settings = self.simulation
        texts = runtime.get(self.data).queries(self.split).texts
        vectors, mistyped = (runtime.get(one).vectors for one in (self.vectors, self.mistyped))
        pool = pool_of(texts, np.asarray(vectors), np.asarray(mistyped), settings.seed)
        cells: list[tuple[str | None, float]] = [(None, 0.0)] * 4
        cells += [(kind, strength) for kind in KINDS for strength in STRENGTHS]
        alarms: dict[str, list[bool]] = {}
        start, compared = time.perf_counter(), 0
        with runtime.progressing("windows", len(cells) * settings.runs) as advance:
            for number, (kind, strength) in enumerate(cells):
                for run in range(settings.runs):
                    rng = np.random.default_rng([settings.seed, number, run])
                    sample = self._window(pool, kind, strength, rng)
                    name = QUIET if kind is None else f"{kind} {100 * strength:g} %"
                    p = self.detector.compare(sample, rng).p
                    alarms.setdefault(name, []).append(p <= settings.level)
                    if kind is None:
                        single = Sample(
                            sample.values, sample.in_window, np.arange(len(sample.units))
                        )
                        p = self.detector.compare(single, rng).p
                        alarms.setdefault(SINGLE, []).append(p <= settings.level)
                    compared += 1 + (kind is None)
                    advance(1)
        found = {name: 100 * float(np.mean(seen)) for name, seen in alarms.items()}
        found["compare ms"] = 1000 * (time.perf_counter() - start) / compared
        low, high = wilson(sum(alarms[QUIET]), len(alarms[QUIET]))
        found |= dict(zip(BOUNDS, (100 * low, 100 * high), strict=True))
        (folder / "power.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        return {QUIET: found[QUIET], SINGLE: found[SINGLE]}

    def _window(
        self, pool: Pool, kind: str | None, strength: float, rng: np.random.Generator
    ) -> Sample:
        """A reference and a window with planted drift, as the detector reads them."""
        size = self.simulation.size
        sides = [pool.asked(size, rng) for _ in range(2)]
        changed = rng.random(size) < strength
        queries = planted(pool, kind, sides[1][0], changed, rng)
        before = values(pool, self.detector.reads, sides[0][0], None, None, rng)
        after = values(pool, self.detector.reads, queries, kind, changed, rng)
        users = sides[0][1], sides[1][1] + sides[0][1].max() + 1
        return Sample.of(before, after, *users)

    def load(self, folder: Path) -> dict[str, float]:
        found: dict[str, float] = json.loads((folder / "power.json").read_text("utf-8"))
        return found


def planted(
    pool: Pool,
    kind: str | None,
    queries: np.ndarray,
    changed: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The window's queries, some replaced by drift that changes what is asked.

    Args:
        pool: of queries.
        kind: `topic` (one topic alone) and `length` (queries of many words) replace queries.
        queries: of the window.
        changed: which of them drift touches.
        rng: of the draws.

    Returns:
        Numbers of queries.
    """
    if kind == "topic":
        some = np.flatnonzero(pool.topics == rng.integers(TOPICS))
    elif kind == "length":
        some = np.flatnonzero(pool.words >= np.quantile(pool.words, 0.8))
    else:
        return queries
    return np.where(changed, rng.choice(some, size=len(queries)), queries)


def values(
    pool: Pool,
    reads: str,
    queries: np.ndarray,
    kind: str | None,
    changed: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """What a detector compares: word counts, topics, or vectors.

    Args:
        pool: of queries.
        reads: what the detector compares.
        queries: numbers of queries.
        kind: `typos` and `encoder` change vectors, and topics with them.
        changed: which queries drift touches.
        rng: of another encoder, which is a rotation of the vectors.

    Returns:
        One value a query.
    """
    if reads == NUMBERS:
        counts: np.ndarray = pool.words[queries].astype(np.float64)
        return counts
    vectors: np.ndarray = pool.vectors[queries]
    if kind == "typos" and changed is not None:
        vectors = np.where(changed[:, None], pool.mistyped[queries], vectors)
    if kind == "encoder" and changed is not None:
        turn, _ = np.linalg.qr(rng.normal(size=(vectors.shape[1], vectors.shape[1])))
        vectors = np.where(changed[:, None], vectors @ turn.astype(np.float32), vectors)
    if reads == LABELS:
        centres = np.stack([pool.vectors[pool.topics == n].mean(axis=0) for n in range(TOPICS)])
        nearest: np.ndarray = (vectors @ centres.T).argmax(axis=1)
        return nearest
    return vectors


def pool_of(texts: list[str], vectors: np.ndarray, mistyped: np.ndarray, seed: int) -> Pool:
    """Queries for simulated users.

    Args:
        texts: N query texts.
        vectors, mistyped: N×D, of the texts and of the same with typing errors.
        seed: of the topics.

    Returns:
        The pool; topics are clusters of the vectors (k-means).
    """
    import faiss

    means = faiss.Kmeans(vectors.shape[1], TOPICS, niter=20, seed=seed, spherical=True)
    means.train(np.ascontiguousarray(vectors, dtype=np.float32))
    assert means.centroids is not None
    topics = (vectors @ means.centroids.T).argmax(axis=1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    _, near = index.search(np.ascontiguousarray(vectors, dtype=np.float32), NEAR)
    words = np.array([len(text.split()) for text in texts])
    return Pool(vectors.astype(np.float32), mistyped.astype(np.float32), words, topics, near)


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share.

    Args:
        hits: of `total`.
        total: at least 1.
        z: of the normal distribution; 1.96 for 95 %.

    Returns:
        Low and high.
    """
    share = hits / total
    middle = share + z * z / (2 * total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, float((middle - half) / scale)), float((middle + half) / scale)
