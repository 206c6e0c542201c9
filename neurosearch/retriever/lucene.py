"""BM25 in Lucene, through Anserini, in processes of their own.

The JVM never meets this process's threads or forks. Batches go through Anserini's own
`IndexCollection` and `SearchCollection` (one JVM for a whole grid of parameters, results read
back as a TREC file); single queries and judged pools go to a worker that keeps an index open
(`lucene_worker.py`). Tokens are ours (`Analyzer`), Lucene only splits at white space, so both
engines score the same terms. Scores: idf ln(1 + (N - n + .5)/(n + .5)), tf f/(f + K), summed
over fields with their boosts; lengths are stored in one byte.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.artifact import Artifact
from neurosearch.retriever import lucene_worker
from neurosearch.retriever.analyzer import Analyzer, Tokenizer
from neurosearch.retriever.java import anserini_jar, java_home, jvm_library, run_java
from neurosearch.runtime import Runtime
from neurosearch.types import TEXT_FIELDS, Dataset

CONTENTS = "contents"  # the catch-all field: every text field, joined


@dataclass(frozen=True)
class LuceneIndex(Artifact[Path]):
    """A Lucene index of `contents` and of any single `fields`; documents are row numbers."""

    kind: ClassVar[str] = "lucene"
    data: Artifact[Dataset]
    analyzer: Analyzer
    fields: tuple[str, ...]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        catalogue = runtime.get(self.data).catalogue
        tokenizer = self.analyzer.tokenizer()
        empty, row = 0, 0
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            # Many files, so that every indexing thread has one.
            with runtime.progressing("tokens for Lucene", len(catalogue)) as done:
                for number, frame in enumerate(catalogue.batches(TEXT_FIELDS)):
                    with (Path(scratch) / f"{number:06d}.jsonl").open("w") as out:
                        for texts in frame.iter_rows(named=True):
                            document = document_tokens(texts, self.fields, tokenizer)
                            empty += not document[CONTENTS]
                            out.write(json.dumps({"id": str(row), **document}) + "\n")
                            row += 1
                    done(frame.height)
            extra = ["-fields", *self.fields] if self.fields else []
            run_java(
                "io.anserini.index.IndexCollection",
                *("-collection", "JsonCollection", "-input", scratch),
                *("-index", str(folder / "index"), "-pretokenized", "-optimize"),
                *("-generator", "DefaultLuceneDocumentGenerator", "-memoryBuffer", "512"),
                *("-threads", str(runtime.cpu_threads), *extra),
                memory=runtime.java_memory,
            )
        return {"products": row, "without any token": empty}

    def load(self, folder: Path) -> Path:
        return folder / "index"


def document_tokens(
    texts: Mapping[str, str | None], fields: Sequence[str], tokenizer: Tokenizer
) -> dict[str, str]:
    """Space-separated tokens of each field and of `contents`."""
    everything = " ".join(text for text in texts.values() if text)
    document = {CONTENTS: " ".join(tokenizer.tokens(everything))}
    for name in fields:
        document[name] = " ".join(tokenizer.tokens(texts[name] or ""))
    return document


@dataclass(frozen=True)
class Scoring:
    """Parameters of one BM25: k1, b, and boosts by field."""

    k1: float
    b: float
    boosts: Mapping[str, float]


def batch_search(
    index: Path, queries: list[list[str]], k: int, scorings: Sequence[Scoring], runtime: Runtime
) -> list[pl.DataFrame]:
    """For each scoring, a frame of `query` (number), `row`, `score`.

    One JVM serves all scorings of the same boosts. Lucene writes four decimals and tells
    ties apart by less.
    """
    frames: dict[int, pl.DataFrame] = {}
    grids: dict[tuple[tuple[str, float], ...], list[int]] = {}
    for number, scoring in enumerate(scorings):
        grids.setdefault(tuple(scoring.boosts.items()), []).append(number)
    with tempfile.TemporaryDirectory() as scratch:
        topics = Path(scratch) / "topics.tsv"
        lines = (f"{n}\t{' '.join(q)}\n" for n, q in enumerate(queries) if q)
        topics.write_text("".join(lines), encoding="utf-8")
        if topics.stat().st_size == 0:
            return [_no_hits() for _ in scorings]
        for grid, (boosts, members) in enumerate(grids.items()):
            k1s = list(dict.fromkeys(str(scorings[n].k1) for n in members))
            bs = list(dict.fromkeys(str(scorings[n].b) for n in members))
            run = Path(scratch) / f"run{grid}"
            single = [name for name, _ in boosts] == [CONTENTS]
            run_java(
                "io.anserini.search.SearchCollection",
                *("-index", str(index), "-topics", str(topics), "-topicReader", "TsvString"),
                *("-bm25", "-bm25.k1", *k1s, "-bm25.b", *bs),
                *("-hits", str(k), "-pretokenized", "-output", str(run)),
                *("-threads", str(runtime.cpu_threads)),
                *([] if single else ["-fields", *(f"{f}={weight}" for f, weight in boosts)]),
                memory=runtime.java_memory,
            )
            for number in members:
                name = f"{run.name}_bm25(k1={scorings[number].k1},b={scorings[number].b})_default"
                alone = len(k1s) * len(bs) == 1
                frames[number] = _read_trec(run if alone else run.with_name(name))
    return [frames[number] for number in range(len(scorings))]


def _no_hits() -> pl.DataFrame:
    return pl.DataFrame(schema={"query": pl.Int64, "row": pl.Int64, "score": pl.Float64})


def _read_trec(path: Path) -> pl.DataFrame:
    if not path.exists() or path.stat().st_size == 0:
        return _no_hits()
    names = ["query", "q0", "row", "rank", "score", "tag"]
    frame = pl.read_csv(path, separator=" ", has_header=False, new_columns=names)
    return frame.select(
        pl.col("query").cast(pl.Int64), pl.col("row").cast(pl.Int64), pl.col("score")
    )


class LuceneWorker:
    """A child process with an open index: single queries in milliseconds, and judged pools."""

    def __init__(self, index: Path, scoring: Scoring, memory: str) -> None:
        script = Path(lucene_worker.__file__)
        command = [sys.executable, "-P", str(script), str(index), str(anserini_jar())]
        command += [str(java_home()), str(jvm_library()), memory]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        boosts = {} if list(scoring.boosts) == [CONTENTS] else dict(scoring.boosts)
        self._ask({"k1": scoring.k1, "b": scoring.b, "boosts": boosts})

    def search(
        self, tokens: list[str], k: int, pool: Sequence[int] | None = None
    ) -> tuple[list[int], list[float]]:
        """Rows and scores of the best `k`, among `pool` where it is given."""
        if not tokens or k == 0:
            return [], []
        rows = None if pool is None else [str(row) for row in pool]
        answer = self._ask({"query": " ".join(tokens), "k": k, "pool": rows})
        return [int(row) for row in answer["rows"]], answer["scores"]

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout and self._process.stderr
        try:
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def pool_scores(worker: LuceneWorker, queries: list[list[str]], pool: pl.DataFrame) -> pl.DataFrame:
    """`query`, `row`, `score` of every pooled product; 0 where no term matches."""
    grouped = pool.group_by("query", maintain_order=True).agg("row")
    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    for query, rows in grouped.iter_rows():
        found, scores = worker.search(queries[query], len(rows), rows)
        known = dict(zip(found, scores, strict=True))
        filled = np.array([known.get(row, 0.0) for row in rows])
        parts.append((query, np.array(rows), filled))
    return pl.DataFrame(
        {
            "query": np.concatenate([np.full(len(rows), query) for query, rows, _ in parts]),
            "row": np.concatenate([rows for _, rows, _ in parts]),
            "score": np.concatenate([scores for _, _, scores in parts]),
        }
    )
