"""Home Depot: published quirks, the split rule, errors by row and column."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.home_depot import HomeDepot

HEADER = '"id","product_uid","product_title","search_term","relevance"\n'
ROWS = [
    '2,100001,"Simpson 12-Gauge Angle","angle bracket",3\n',
    '3,100001,"Simpson 12-Gauge Angle","l bracket",2.5\n',
    '9,100002,"BEHR 1-gal. Café Coating","deck over",2.33\n',
    '10,100001,"Simpson 12 Gauge Angle","gauge",1\n',
]


def write(folder: Path, rows: list[str] = ROWS, zipped: bool = False) -> HomeDepot:
    text = (HEADER + "".join(rows)).encode("latin-1")
    if zipped:
        with zipfile.ZipFile(folder / "train.csv.zip", "w") as archive:
            archive.writestr("train.csv", text)
    else:
        (folder / "train.csv").write_bytes(text)
    return HomeDepot(str(folder))


@pytest.mark.parametrize("zipped", [True, False])
def test_zip_and_csv_in_latin_1(runtime: Runtime, tmp_path: Path, zipped: bool) -> None:
    folder = runtime.store.ensure(write(tmp_path, zipped=zipped).dataset())
    products = pl.read_parquet(folder / "products.parquet")
    assert products["product_id"].to_list() == ["100001", "100002"]
    # Two spellings of one product's title: the first counts.
    assert products["title"].to_list() == ["Simpson 12-Gauge Angle", "BEHR 1-gal. Café Coating"]
    judgments = pl.read_parquet(folder / "judgments.parquet")
    assert judgments["label"].cast(pl.Float64).to_list() == [3.0, 2.5, 2.33, 1.0]


def test_the_split_is_the_hash_of_the_query(runtime: Runtime, tmp_path: Path) -> None:
    rows = [f'{i},{i},"title {i}","query {i}",2\n' for i in range(200)]
    folder = runtime.store.ensure(write(tmp_path, rows).dataset())
    queries = pl.read_parquet(folder / "queries.parquet")
    for text, split in queries.select("text", "split").iter_rows():
        bucket = int(hashlib.sha1(text.encode()).hexdigest(), 16) % 10
        assert split == ("test" if bucket in (0, 1) else "dev" if bucket == 2 else "train")


def test_descriptions_and_attributes_are_read_where_they_are(
    runtime: Runtime, tmp_path: Path
) -> None:
    (tmp_path / "product_descriptions.csv").write_text(
        '"product_uid","product_description"\n100002,"Covers <b>old</b> decks &amp; more"\n'
    )
    (tmp_path / "attributes.csv").write_text(
        '"product_uid","name","value"\n'
        '100001,"MFG Brand Name","Simpson"\n100001,"Bullet02","second"\n'
        '100001,"Bullet01","first"\n100001,"Color Family","Silver"\n,,\n'
    )
    folder = runtime.store.ensure(write(tmp_path).dataset())
    first, second = pl.read_parquet(folder / "products.parquet").iter_rows(named=True)
    assert (first["brand"], first["bullets"], first["colour"]) == (
        "Simpson",
        "first second",
        "Silver",
    )
    assert second["description"] == "Covers old decks & more"


@pytest.mark.parametrize(
    "row, message",
    [
        ('5,100003,"x","y",4\n', r"row 6, column 'relevance': unknown label '4'"),
        ('5,100003,"x","y",good\n', r"row 6, column 'relevance': unknown label 'good'"),
        (
            '5,100001,"x","gauge",2\n',
            "row 6: duplicate text/product_id 'gauge/100001', first at row 5",
        ),
        ('5,100003,"x","",2\n', "row 6: column 'search_term' is empty"),
        ('5,,"x","y",2\n', "row 6: column 'product_uid' is empty"),
    ],
)
def test_bad_rows_are_named(runtime: Runtime, tmp_path: Path, row: str, message: str) -> None:
    data = write(tmp_path, [*ROWS, row])
    with pytest.raises(InputError, match=message):
        runtime.get(data.dataset())
    assert runtime.store.manifest(data.dataset()) is None


def test_missing_file_and_column_are_named(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.csv: no such file"):
        runtime.get(HomeDepot(str(tmp_path)).dataset())
    (tmp_path / "train.csv").write_text("id,product_uid,product_title,search_term\n1,2,a,b\n")

    with pytest.raises(InputError, match=r"missing column 'relevance'"):
        runtime.get(HomeDepot(str(tmp_path)).dataset())


def test_a_file_that_is_no_archive_is_named(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "train.csv.zip").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"train\.csv\.zip: not the published archive"):
        runtime.get(HomeDepot(str(tmp_path)).dataset())


REAL = Path(os.environ.get("NEUROSEARCH_DATA", "nowhere")) / "home_depot"


@pytest.mark.skipif(not REAL.is_dir(), reason="NEUROSEARCH_DATA has no home_depot")
def test_the_published_counts(runtime: Runtime) -> None:
    data = runtime.get(HomeDepot(str(REAL)).dataset())
    assert len(data.catalogue) == 54_667
    assert [len(data.queries(split)) for split in ("train", "dev", "test")] == [8258, 1185, 2352]
