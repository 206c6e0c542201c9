"""Run files of other toolkits become rows with the numbers that their own run has."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.run_file import RunFile
from tests.requests import ask


@pytest.fixture
def bm25(shop_runtime: Runtime, shop: Artifact[Dataset]) -> pl.DataFrame:
    run = BM25(engine="bm25s").run(shop, ask(depth=50))
    return shop_runtime.get(run).frame


def written(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".json":
        lists: dict[str, dict[str, float]] = {}
        for query, product, score, _ in frame.iter_rows():
            lists.setdefault(query, {})[product] = score
        path.write_text(json.dumps(lists))
    elif path.suffix == ".parquet":
        ours = {"query_id": "q_id", "product_id": "doc_id"}
        frame.rename(ours).drop("rank").sample(fraction=1.0, shuffle=True).write_parquet(path)
    else:
        lines = [f"{q} Q0 {d} 1 {s!r} other" for q, d, s, _ in frame.iter_rows()]  # ranks are wrong
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["run.trec", "run.json", "run.parquet"])
def test_a_run_comes_back(name: str, bm25, shop_runtime, shop, tmp_path: Path) -> None:
    path = written(bm25, tmp_path / name)
    found = shop_runtime.get(RunFile(str(path)).run(shop, ask(depth=50)))
    assert found.frame.equals(bm25)
    cut = shop_runtime.get(RunFile(str(path)).run(shop, ask(depth=5)))
    assert cut.frame.equals(bm25.filter(pl.col("rank") <= 5))


def test_the_files_content_is_what_counts(bm25, shop, tmp_path: Path) -> None:
    one = RunFile(str(written(bm25, tmp_path / "a.trec")))
    two = RunFile(str(written(bm25, tmp_path / "b.trec")))
    other = RunFile(str(written(bm25.head(10), tmp_path / "c.trec")))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert (one.label(), RunFile(two.path, "peer").label()) == ("a.trec", "peer")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("x.trec", "q1 Q0 d1 1 2.0 t\n", "row 1: the test split has no query 'q1'"),
        ("x.trec", "{query} Q0 nothing 1 2.0 t\n", "has 'nothing', which is no product"),
        ("x.trec", "{query} Q0 {product} 1 two t\n", "column 5: 'two' is no score"),
        ("x.trec", "{query} Q0 {product} 1 2 t\n{query} Q0 {product} 2 1 t\n", "twice"),
        ("x.json", "[1, 2]", "not JSON of the shape"),
        ("x.json", '{{"q1": {{"d": 1}}}}', "the test split has no query 'q1'"),
        ("x.json", '{{"{query}": {{"{product}": 1e400}}}}', "is no number"),
        ("x.parquet", "PAR1", "not readable as parquet"),
    ],
)
def test_a_bad_file_is_named(
    name: str, content: str, message: str, bm25, shop_runtime, shop, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content.format(query=bm25[0, "query_id"], product=bm25[0, "product_id"]))
    with pytest.raises(InputError, match=message):
        shop_runtime.get(RunFile(str(path)).run(shop, ask(depth=50)))


@pytest.mark.parametrize(
    "name, raw, message",
    [
        ("empty.trec", b"", "no lists"),
        ("empty.json", b"{}", "no lists"),
        ("latin.trec", b"q\xe9 Q0 d 1 1 t\n", "not UTF-8 .* at byte 1"),
        ("latin.json", b'{"q\xe9": {}}', "not UTF-8 .* at byte 3"),
    ],
)
def test_an_empty_or_foreign_file_is_one_line(
    name: str, raw: bytes, message: str, shop, shop_runtime: Runtime, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InputError, match=rf"{name}: {message}"):
        shop_runtime.get(RunFile(str(tmp_path / name)).run(shop, ask()))
    with pytest.raises(InputError, match="is a folder"):
        RunFile(str(tmp_path))


def test_queries_without_a_list_are_said(
    shop, shop_runtime: Runtime, tmp_path: Path, caplog
) -> None:
    queries = shop_runtime.get(shop).queries("test").ids
    product = shop_runtime.get(shop).catalogue.ids[0]
    (tmp_path / "few.trec").write_text(f"{queries[0]} Q0 {product} 1 2.5 t\n")
    shop_runtime.get(RunFile(str(tmp_path / "few.trec")).run(shop, ask()))
    assert f"lists for 1 of {len(queries)} queries of the test split" in caplog.text
