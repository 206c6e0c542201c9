"""Amazon Reviews: both forms, leave-one-out by hand, bad rows by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.amazon_reviews import AmazonReviews
from neurosearch.evaluation.opened import opened

META = [
    {"asin": f"B{i}", "title": f"Pen {i}", "brand": "Bic", "category": ["Office", "Pens"]}
    for i in range(6)
]
META[0] |= {"description": ["A <b>fine</b> pen"], "price": "$2", "imageURL": ["http://x/0.jpg"]}
BOUGHT = {"ann": [0, 1, 2, 3], "bob": [4, 1, 5], "eve": [2, 3]}


def published(folder: Path) -> Path:
    with gzip.open(folder / "meta_Office.json.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in META)
    rows = [
        {
            "reviewerID": user,
            "asin": f"B{item}",
            "unixReviewTime": 1000 - place if user == "bob" else place,
            "reviewText": f"{user} likes {item}",
        }
        for user, items in BOUGHT.items()
        for place, item in enumerate(items)
    ]
    with (folder / "Office.jsonl").open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in rows)
    return folder


def test_published_files_leave_the_last_ones_out(tmp_path: Path, runtime: Runtime) -> None:
    data = runtime.get(AmazonReviews(path=str(published(tmp_path)), shown=2).dataset())
    # bob's times run backwards; eve has two products only and is left out.
    expected = {
        "test": {("Pen 2 ; Pen 1", "B0 B1 B2", "B3"), ("Pen 1 ; Pen 5", "B5 B1", "B4")},
        "dev": {("Pen 1 ; Pen 0", "B0 B1", "B2"), ("Pen 5", "B5", "B1")},
        "train": {("Pen 0", "B0", "B1")},
    }
    for split, wanted in expected.items():
        asked = data.queries(split).frame.join(opened(data).judgments(split).frame, on="query_id")
        found = asked.with_columns(pl.col("history").list.join(" "))
        assert set(found.select("text", "history", "product_id").rows()) == wanted
    row = next(data.catalogue.batches(["description", "category", "attributes"])).row(0)
    assert row[:2] == ("A fine pen", "Office > Pens")
    assert json.loads(row[2]) == {"price": "$2", "images": ["http://x/0.jpg"]}
    behaviour = data.behaviour
    assert behaviour is not None and behaviour.height == 9
    assert behaviour.filter(pl.col("session") == 1)["product_id"].to_list() == ["B5", "B1", "B4"]


def test_popularity_is_thirds_of_what_train_asks_for(tmp_path: Path, runtime: Runtime) -> None:
    users = pl.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(6)],
            "item_ids": [[0, 1, 2, 3], [0, 1, 2, 3], [0, 2, 2, 3], [0, 3, 2, 3]]
            + [[0, 4, 2, 3]] * 2,
        }
    )
    users.write_parquet(tmp_path / "sequences.parquet")
    items = {"item_id": list(range(5)), "title": [f"t{i}" for i in range(5)]}
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    data = runtime.get(AmazonReviews(path=str(tmp_path)).dataset())
    # Train asks for 1 1 2 3 4 4: 1 and 4 twice each (1 first by id), then 2 and 3.
    asked = data.queries("train").frame.join(data.judgments("train").frame, on="query_id")
    told = dict(asked.select("product_id", "popularity").unique().rows())
    assert told == {"1": "head", "4": "torso", "2": "tail", "3": "tail"}
    assert set(data.queries("test").frame["popularity"]) == {"tail"}


def test_reviews_as_queries(tmp_path: Path, runtime: Runtime) -> None:
    data = AmazonReviews(path=str(published(tmp_path)), queries="reviews").dataset()
    runtime.get(data)
    frame = pl.read_parquet(runtime.store.folder(data) / "queries.parquet")
    judged = pl.read_parquet(runtime.store.folder(data) / "judgments.parquet")
    pairs = set(frame.join(judged, on="query_id").select("text", "product_id").rows())
    assert ("ann likes 0", "B0") in pairs
    assert all(text.endswith(product[1:]) for text, product in pairs)


def test_the_compact_form(tmp_path: Path, runtime: Runtime) -> None:
    items = {
        "item_id": [0, 1, 2],
        "title": ["A", "B", "C"],
        "description": ["['x', 'y']", "['']", ""],
    }
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    sequences = {"user_id": ["u"], "item_ids": [[2, 0, 1]]}
    pl.DataFrame(sequences).write_parquet(tmp_path / "sequences.parquet")
    data = runtime.get(AmazonReviews(path=str(tmp_path)).dataset())
    assert next(data.catalogue.batches(["description"]))["description"].to_list() == [
        "x y",
        "",
        None,
    ]
    assert data.queries("test").frame.row(0)[1] == "A ; C"
    with pytest.raises(InputError, match="the compact form has no reviews"):
        runtime.get(AmazonReviews(path=str(tmp_path), queries="reviews").dataset())
    bad = {"user_id": ["u"], "item_ids": [[2, 9, 1]]}
    pl.DataFrame(bad).write_parquet(tmp_path / "sequences.parquet")
    with pytest.raises(InputError, match=r"sequences\.parquet row 1: product_id '9' is not in"):
        runtime.get(AmazonReviews(path=str(tmp_path), longest=19).dataset())


@pytest.mark.parametrize(
    "line, told",
    [
        ("{", r"row 1: not JSON"),
        ("[1]", r"row 1: not a JSON object"),
        ('{"asin": "B1", "unixReviewTime": 1}', r"row 1: column 'reviewerID' is empty"),
        ('{"asin": "B1", "reviewerID": "a", "unixReviewTime": "x"}', r"row 1: 'x' is no time"),
    ],
)
def test_bad_lines_are_refused(tmp_path: Path, runtime: Runtime, line: str, told: str) -> None:
    published(tmp_path)
    (tmp_path / "Office.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=rf"Office\.jsonl {told}"):
        runtime.get(AmazonReviews(path=str(tmp_path)).dataset())


def test_missing_files_and_settings(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(InputError, match=r"no meta\*\.json"):
        runtime.get(AmazonReviews(path=str(tmp_path)).dataset())
    with pytest.raises(InputError, match=r"queries must be one of next_item, reviews"):
        AmazonReviews(path=str(tmp_path), queries="clicks")
