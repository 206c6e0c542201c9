"""BEIR folders: shape, carved dev, errors by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.beir import Beir

CORPUS = [
    {
        "_id": "d1",
        "title": "red mug",
        "text": "a mug",
        "metadata": {"brand": "X", "bullets": ["a"]},
    },
    {"_id": "d2", "title": "lamp", "text": ""},
]
QUERIES = [{"_id": f"q{n}", "text": f"query {n}"} for n in range(60)]


def write(
    folder: Path,
    corpus: list[dict[str, Any]] = CORPUS,
    queries: list[dict[str, Any]] = QUERIES,
    **qrels: str,
) -> Beir:
    for name, records in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "qrels").mkdir(exist_ok=True)
    for split, lines in (qrels or {"test": "q0\td1\t1\n"}).items():
        header = "query-id\tcorpus-id\tscore\n"
        (folder / "qrels" / f"{split}.tsv").write_text(header + lines)
    return Beir(str(folder))


def test_splits_are_the_qrels_files(runtime: Runtime, tmp_path: Path) -> None:
    data = write(tmp_path, train="q0\td1\t2\n", dev="q1\td1\t1\n", test="q2\td2\t0\n")
    folder = runtime.store.ensure(data.dataset())
    queries = pl.read_parquet(folder / "queries.parquet")
    assert queries.select("query_id", "split").rows() == [
        ("q0", "train"),
        ("q1", "dev"),
        ("q2", "test"),
    ]
    product = pl.read_parquet(folder / "products.parquet").row(0, named=True)
    assert (product["title"], product["description"]) == ("red mug", "a mug")
    assert (product["brand"], product["bullets"]) == ("X", "a")


def test_a_missing_dev_is_carved_out_of_train(runtime: Runtime, tmp_path: Path) -> None:
    train = "".join(f"q{n}\td1\t1\n" for n in range(50))
    folder = runtime.store.ensure(write(tmp_path, train=train, test="q55\td1\t1\n").dataset())
    counts = dict(pl.read_parquet(folder / "queries.parquet").group_by("split").len().iter_rows())
    assert counts["test"] == 1
    assert 0 < counts["dev"] < 20


def test_a_split_that_is_not_there_is_said_so(runtime: Runtime, tmp_path: Path) -> None:
    data = runtime.get(write(tmp_path).dataset())
    with pytest.raises(InputError, match="has no dev queries"):
        data.queries("dev")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"corpus": [*CORPUS, CORPUS[0]]}, "row 3: duplicate product_id 'd1', first at row 1"),
        ({"corpus": [*CORPUS, {"_id": "d3", "titel": "x"}]}, "row 3: neither column 'title' nor"),
        ({"corpus": [{"_id": "d1", "metadata": "oops"}]}, "row 1: column 'metadata' is no object"),
        ({"corpus": [{"_id": "d1", "title": 5}]}, "row 1: column 'title' is 5, not a text"),
        ({"queries": [{"_id": "q0", "text": 17}]}, "row 1: column 'text' is 17, not a text"),
        ({"corpus": [{"title": "x"}]}, "row 1: column '_id' is empty"),
        ({"queries": [*QUERIES, QUERIES[4]]}, "row 61: duplicate query_id 'q4'"),
        ({"queries": [{"_id": "q0", "text": " "}]}, "row 1: column 'text' is empty"),
        ({"test": "q0\td9\t1\n"}, r"test\.tsv row 2: product_id 'd9' is not in corpus\.jsonl"),
        ({"test": "q99\td1\t1\n"}, r"test\.tsv row 2: query_id 'q99' is not in queries\.jsonl"),
        ({"test": "q0\td1\tgood\n"}, "row 2, column 'score': unknown label 'good'"),
        ({"test": "q0\td1\t1\nq0\td1\t1\n"}, "row 3: duplicate query_id/product_id 'q0/d1'"),
        ({"train": "q0\td1\t1\n", "test": "q0\td2\t1\n"}, "query 'q0' is in two splits"),
    ],
)
def test_bad_rows_are_named(runtime: Runtime, tmp_path: Path, changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runtime.get(write(tmp_path, **changes).dataset())


def test_lines_that_are_not_json_are_named(runtime: Runtime, tmp_path: Path) -> None:
    data = write(tmp_path)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1"}\n{oops\n')
    with pytest.raises(InputError, match=r"corpus\.jsonl row 2: not JSON"):
        runtime.get(data.dataset())
