"""The monitor: what it reads, what it checks, and what alarms."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.types import PRODUCT_SCHEMA, Catalogue
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.index.flat import Flat
from neurosearch.index.live import LiveIndex
from neurosearch.monitoring import health
from neurosearch.monitoring.health import ServedIndex
from neurosearch.monitoring.traffic import SCHEMA, read_log
from tests.commands import run


def line(number: int, **more: Any) -> dict[str, Any]:
    """A line of a query log."""
    attributes = {"words": 2, "system": "words", "fingerprint": "f", "top_score": 1.5}
    attributes |= {"category": "Kitchen", "offset": 0, "stages_ms": {"words": 2.0, "fuse": 1.0}}
    attributes |= more.pop("attributes", {})
    base = {"user_query": f"query {number}", "client_id": None, "timestamp": "2026-01-01T00:00:00"}
    base |= {"query_response_hit_ids": ["P1"], "query_attributes": attributes}
    return {**base, **more}


def written(folder: Path, lines: list[dict[str, Any]], day: str = "2026-01-01") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / f"queries-{day}.jsonl").write_text(text)
    return folder


def test_logs_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines = [line(0), line(1, attributes={"offset": 10}), line(2, attributes={"system": "both"})]
    lines += [line(3, attributes={"stages_ms": {}, "cache": "hit"})]
    written(tmp_path, lines)
    with (tmp_path / "queries-2026-01-01.jsonl").open("a") as handle:
        handle.write('{"cut o')
    found = read_log(tmp_path, "words")
    assert found["text"].to_list() == ["query 0", "query 3"]  # no further page, no other system
    assert found["ms"].to_list() == [3.0, None] and read_log(tmp_path).height == 3
    written(tmp_path, [line(0)], "2026-01-02")
    (tmp_path / "queries-2026-01-01.jsonl").write_text('{}\n{"a": 1}\n')
    with pytest.raises(InputError, match=r"queries-2026-01-01\.jsonl:1 is no line"):
        read_log(tmp_path)
    with pytest.raises(InputError, match="there is no query log"):
        read_log(tmp_path / "none")


def catalogue(path: Path, titles: dict[str, str]) -> Catalogue:
    rows = [{"product_id": name, "title": title} for name, title in titles.items()]
    pl.DataFrame(rows, schema_overrides=PRODUCT_SCHEMA).write_parquet(path)
    return Catalogue(path)


def test_staleness_is_by_content(tmp_path: Path) -> None:
    before = {f"P{n}": f"title {n}" for n in range(20)}
    catalogue(tmp_path / "served.parquet", before)
    now = {**before, "P3": "another title", "P20": "new"}
    del now["P7"]
    shuffled = dict(sorted(now.items(), key=lambda pair: pair[1]))
    fresh = catalogue(tmp_path / "now.parquet", shuffled)
    (check,) = health.staleness(tmp_path / "served.parquet", fresh, 0.1)
    assert check.value == pytest.approx(3 / 20) and check.alarm
    assert check.note == "1 new, 1 gone, 1 changed of 20 products"
    same = catalogue(tmp_path / "same.parquet", dict(reversed(before.items())))
    (check,) = health.staleness(tmp_path / "served.parquet", same, 0.0)
    assert check.value == 0 and not check.alarm


class Fixed(LiveEncoder):
    """A random vector for each text."""

    def __init__(self, dimensions: int, seed: int) -> None:
        self.dimensions, self._seed = dimensions, seed

    def encode(self, texts: Any) -> np.ndarray:
        rows = [np.random.default_rng([self._seed, *text.encode()]) for text in texts]
        found = np.stack([rng.normal(size=self.dimensions) for rng in rows]).astype(np.float32)
        unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit


def served(vectors: np.ndarray, indexed: np.ndarray) -> ServedIndex:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(indexed)
    return ServedIndex(LiveIndex(index, "a", Flat()), Embeddings(vectors, "a"))


def test_another_encoder_alarms() -> None:
    texts = [f"product {n}" for n in range(300)]
    vectors = Fixed(16, 0).encode(texts)
    index = served(vectors, vectors)
    alarms = {
        name: [check.alarm for check in health.encoder_checks(index, identity, live, texts)]
        for name, identity, live in (
            ("same", "a", Fixed(16, 0)),
            ("renamed", "b", Fixed(16, 0)),
            ("swapped", "a", Fixed(16, 1)),
            ("wider", "a", Fixed(32, 0)),
        )
    }
    assert alarms == {
        "same": [False, False, False],
        "renamed": [True, False, False],
        "swapped": [False, True, True],
        "wider": [False, True],
    }


def test_an_index_that_finds_other_products_alarms() -> None:
    vectors = Fixed(16, 0).encode([f"product {n}" for n in range(300)])
    queries = Fixed(16, 0).encode([f"query {n}" for n in range(50)])
    assert health.recall(served(vectors, vectors), queries, 0.95).value == 1.0
    half = vectors.copy()
    half[150:] = -half[150:]
    check = health.recall(served(vectors, half), queries, 0.95)
    assert check.alarm and check.value < 0.9


def test_spread_of_known_vectors() -> None:
    rng = np.random.default_rng(0)
    even = rng.normal(size=(500, 8))
    mean, rank, uniform = (one.value for one in health.spread(even, rng))
    assert abs(mean) < 0.02 and 7.5 < rank <= 8
    assert uniform == pytest.approx(-4 + 8 / 8, abs=0.35)  # about -4 + 8/d on a sphere
    collapsed = np.ones((500, 8)) + 1e-6 * even
    mean, rank, uniform = (one.value for one in health.spread(collapsed, rng))
    assert (
        mean == pytest.approx(1, abs=1e-6) and rank < 1.1 and uniform == pytest.approx(0, abs=1e-4)
    )


def test_latency_and_errors_by_hand() -> None:
    def frame(values: list[float]) -> pl.DataFrame:
        return pl.DataFrame({"ms": values}, schema={"ms": SCHEMA["ms"]})

    slow = health.latency(frame([1.0] * 50), frame([1.0] * 30 + [5.0] * 20), 2.0)
    assert [(one.value, one.alarm) for one in slow] == [(5.0, True)]
    assert health.latency(frame([1.0] * 5), frame([1.0] * 50), 2.0) == []
    name = "http_server_request_duration_seconds_count"
    page = "\n".join(
        f'{name}{{http_response_status_code="{code}",http_route="{route}"}} {count}'
        for code, route, count in (
            *((200, "/v1/search", 96), (503, "/v1/search", 3), (500, "/v1/explain", 1)),
            *((200, "/metrics", 900), (500, "/metrics", 50)),
        )
    )
    (check,) = health.errors(page, 0.01)
    assert check.value == pytest.approx(0.04) and check.alarm and health.errors("", 0.01) == []


SMALL = ["data.n_products=500", "data.n_queries=60", "data.n_sessions=20", "data.images=false"]
DENSE = ["retriever=dense", "encoder@retriever.encoder=hashing"]
WATCH = ["task=monitor", "task.window=150", *(f"task.{k}.permutations=499" for k in ("numbers",))]
WATCH += ["task.labels.permutations=499", "task.vectors.permutations=499"]


def test_planted_drift_and_a_stale_index_alarm(tmp_path: Path) -> None:
    """The whole path: a quiet log ends with 0, planted faults with 1 and their names."""
    outputs = [f"paths.outputs={tmp_path}"]
    done = run([*SMALL, *DENSE, *outputs, "evaluation.latency.queries=0"], dict(os.environ))
    assert done.returncode == 0, done.stderr
    (own,) = tmp_path.glob("artifacts/data/[0-9a-f]*")
    other = run([*SMALL, *DENSE, *outputs, "data.seed=5", "task=plan"], dict(os.environ))
    assert other.returncode == 0, other.stderr
    (another,) = set(tmp_path.glob("artifacts/data/[0-9a-f]*")) - {own}
    queries = pl.read_parquet(own / "queries.parquet")
    texts = queries["text"].to_list()
    rng = np.random.default_rng(0)

    def traffic(count: int, more: str = "") -> list[dict[str, Any]]:
        return [
            line(n, user_query=text + more, attributes={"words": len((text + more).split())})
            for n, text in enumerate(rng.choice(texts, size=count))
        ]

    log = tmp_path / "log"
    written(log, traffic(400))
    words = [*SMALL, *DENSE, *outputs, *WATCH, f"task.log={log}"]
    quiet = run(words, dict(os.environ))
    assert quiet.returncode == 0, quiet.stderr
    report = json.loads(next(tmp_path.glob("jobs/*/*/monitor/report.json")).read_text())
    assert report["alarms"] == [] and {one["feature"] for one in report["drift"]} >= {
        *("words per query", "words", "query vectors"),
    }
    page = next(tmp_path.glob("jobs/*/*/monitor/index.html")).read_text()
    assert "Nothing alarms" in page and "query vectors" in page
    # Drift: longer queries. And what is served is another catalogue.
    written(log, [*traffic(250), *traffic(150, " with free delivery")])
    index = next(tmp_path.glob("artifacts/index/[0-9a-f]*"))
    (job,) = tmp_path.glob("jobs/adhoc/*/monitor")
    record = job.parent / "serving" / "served" / "now" / "record.json"
    record.parent.mkdir(parents=True)
    addresses = [f"data/{another.name}", f"index/{index.name}"]
    record.write_text(json.dumps({"systems": {"dense": {"artifacts": addresses}}}))
    alarmed = run(words, dict(os.environ))
    assert alarmed.returncode == 2 and "Traceback" not in alarmed.stderr
    for name in ("words per query", "query vectors", "products that differ"):
        assert name in alarmed.stderr, alarmed.stderr
