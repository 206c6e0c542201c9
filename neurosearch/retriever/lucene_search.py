"""Searching a Lucene index: child processes that keep it open (`lucene_worker.py`).

How an index is written, and what its scores are, says `lucene.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.runtime import Runtime
from neurosearch.query.java import anserini_jar, java_home, jvm_library
from neurosearch.query.lexical import Words
from neurosearch.retriever import lucene_worker

CONTENTS = "contents"  # the catch-all field: every text field, joined
EXPANSION = "expansion"  # texts that a writer added to the products
ROWS = "rows.npy"  # catalogue rows by the number that names a document
CLAUSES = 1_000  # products that one query of Lucene may name
BATCH = 64  # queries that a worker is asked at a time


@dataclass(frozen=True)
class Scoring:
    """Parameters of one BM25: k1, b, and boosts by field."""

    k1: float
    b: float
    boosts: Mapping[str, float]


class LuceneWorkers:
    """Child processes with one open index, for batches of queries: one for each thread with work.

    They are started when they are first needed and stay for the next call.
    """

    def __init__(self, index: Path, runtime: Runtime) -> None:
        self._index, self._runtime = index, runtime
        self._open: list[LuceneWorker] = []

    def search(
        self, queries: list[Words], k: int, scorings: Sequence[Scoring]
    ) -> list[pl.DataFrame]:
        """Runs under several scorings.

        Args:
            queries: weighted tokens of each.
            k: products of a query.
            scorings: BM25's parameters and boosts.

        Returns:
            For each scoring, a frame of `query` (number), `row`, `score` (Float32), best first.
        """
        worded = [number for number, words in enumerate(queries) if words]
        parts = [worded[start : start + BATCH] for start in range(0, len(worded), BATCH)]
        work = [(scoring, part) for scoring in scorings for part in parts]
        if not work:
            return [_no_hits() for _ in scorings]
        frames: list[pl.DataFrame | None] = [None] * len(work)
        todo = iter(range(len(work)))
        lock = Lock()

        def serve(worker: LuceneWorker) -> None:
            while True:
                with lock:
                    number = next(todo, None)
                if number is None:
                    return
                scoring, part = work[number]
                frames[number] = worker.batch([queries[n] for n in part], part, k, scoring)

        count = min(self._runtime.cpu_threads, len(work))
        while len(self._open) < count:
            self._open.append(LuceneWorker(self._index, self._runtime.java_memory))
        with ThreadPoolExecutor(count) as threads:
            for ended in [threads.submit(serve, worker) for worker in self._open[:count]]:
                ended.result()
        whole = [frame for frame in frames if frame is not None]
        size = len(parts)
        return [pl.concat(whole[size * n : size * (n + 1)]) for n in range(len(scorings))]

    def __enter__(self) -> LuceneWorkers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._open:
            worker.close()


def _no_hits() -> pl.DataFrame:
    return pl.DataFrame(schema={"query": pl.Int64, "row": pl.Int64, "score": pl.Float32})


class LuceneWorker:
    """A child process with an open index."""

    def __init__(self, index: Path, memory: str) -> None:
        script = Path(lucene_worker.__file__)
        command = [sys.executable, "-P", str(script), str(index), str(anserini_jar())]
        command += [str(java_home()), str(jvm_library()), memory]
        self._rows = np.load(index.parent / ROWS)
        self._places: np.ndarray | None = None
        self._lock = Lock()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def count(self) -> int:
        """Documents of the index."""
        return int(self._ask({"count": True})["count"])

    def search(
        self, words: Words, k: int, scoring: Scoring, pool: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (int64) and scores (float32) of the best `k`, among `pool` where it is given."""
        if not words or k == 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if pool is None:
            (hits,) = self._searched([words], k, scoring, None)
            return hits
        names = [f"{place:09d}" for place in np.sort(self._places_of(pool))]
        parts = [
            self._searched([words], CLAUSES, scoring, names[start : start + CLAUSES])[0]
            for start in range(0, len(names), CLAUSES)
        ]
        rows, scores = (np.concatenate([part[n] for part in parts]) for n in (0, 1))
        best = np.lexsort((self._places_of(rows.tolist()), -scores))[:k]
        return rows[best], scores[best]

    def batch(
        self, queries: list[Words], numbers: Sequence[int], k: int, scoring: Scoring
    ) -> pl.DataFrame:
        """`query` (of `numbers`), `row`, `score` of several queries."""
        hits = self._searched(queries, k, scoring, None)
        lengths = [len(rows) for rows, _ in hits]
        return pl.DataFrame(
            {
                "query": np.repeat(np.asarray(numbers, dtype=np.int64), lengths),
                "row": np.concatenate([rows for rows, _ in hits]),
                "score": np.concatenate([scores for _, scores in hits]),
            }
        )

    def _searched(
        self, queries: list[Words], k: int, scoring: Scoring, pool: list[str] | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        boosts = {} if list(scoring.boosts) == [CONTENTS] else dict(scoring.boosts)
        asked = [[list(words), list(words.values())] for words in queries]
        request = {"k1": scoring.k1, "b": scoring.b, "boosts": boosts, "k": k, "pool": pool}
        answer = self._ask({"queries": asked, **request})
        return [
            (self._rows[np.array(places, np.int64)], np.array(scores, np.float32))
            for places, scores in answer["found"]
        ]

    def _places_of(self, rows: Sequence[int]) -> np.ndarray:
        if self._places is None:
            self._places = np.empty(len(self._rows), np.int64)
            self._places[self._rows] = np.arange(len(self._rows))
        return self._places[np.asarray(rows, np.int64)]

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout and self._process.stderr
        try:
            with self._lock:  # one line in, one line out, whichever thread asks
                self._process.stdin.write(json.dumps(message) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            tail = self._process.stderr.read()[-2000:]
            raise RuntimeError(f"the Lucene process ended:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> LuceneWorker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # a process that has ended reads no more
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def pool_scores(
    worker: LuceneWorker, queries: list[Words], pool: pl.DataFrame, scoring: Scoring
) -> pl.DataFrame:
    """`query`, `row`, `score` of every pooled product; 0 where no term matches."""
    grouped = pool.group_by("query", maintain_order=True).agg("row")
    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    for query, rows in grouped.iter_rows():
        hits, scores = worker.search(queries[query], len(rows), scoring, rows)
        known = dict(zip(hits.tolist(), scores.tolist(), strict=True))
        filled = np.array([known.get(row, 0.0) for row in rows])
        parts.append((query, np.array(rows), filled))
    return pl.DataFrame(
        {
            "query": np.concatenate([np.full(len(rows), query) for query, rows, _ in parts]),
            "row": np.concatenate([rows for _, rows, _ in parts]),
            "score": np.concatenate([scores for _, _, scores in parts]),
        }
    )
