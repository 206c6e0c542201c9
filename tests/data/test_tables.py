"""Your own data: two tables with your column names become a data set, or one clear error."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.filters import Range
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.tables import TableFiles
from neurosearch.evaluation.opened import opened
from neurosearch.serving.products import Products

PRODUCTS = "sku,name,maker\n1,Red <b>mixer</b>,Acme\n2,Blue mug,\n3,Red mug,Acme\n"
JUDGED = "".join(
    f"red thing {n},{sku},{grade}\n" for n in range(10) for sku, grade in ((1, "good"), (2, "bad"))
)
COLUMNS = {"product_id": "sku", "title": "name", "brand": "maker", "grade": "rating"}


def write(folder: Path, products: str, judged: str, suffix: str = "csv") -> dict[str, str]:
    files = {"products": folder / f"products.{suffix}", "judgments": folder / f"judged.{suffix}"}
    files["products"].write_text(products)
    files["judgments"].write_text(judged)
    return {name: str(path) for name, path in files.items()}


def load(data: TableFiles, folder: Path) -> Dataset:
    runtime = Runtime(folder / "out", progress=False)
    return opened(runtime.get(data.dataset()))


def test_columns_and_grades_of_ones_own(tmp_path: Path) -> None:
    files = write(tmp_path, PRODUCTS, "query,sku,rating\n" + JUDGED)
    data = TableFiles(**files, columns=COLUMNS, grades={"good": 3, "bad": 0})
    found = load(data, tmp_path)
    assert found.catalogue.all_texts(("title", "brand")) == ["Red mixer Acme", "Blue mug",
                                                              "Red mug Acme"]  # fmt: skip
    counts = {split: len(found.queries(split)) for split in ("train", "dev", "test")}
    assert counts == {"train": 6, "dev": 2, "test": 2}
    judged = found.judgments("test").frame
    assert set(judged["label"]) == {"3", "0"} and judged.height == 4
    assert found.queries("test").ids.to_list()[0].startswith("red thing")


def test_titles_stand_in_for_ids_and_parquet_is_read(tmp_path: Path) -> None:
    products = pl.DataFrame({"title": ["Red mug", "Red  mug", "Blue mug"], "price": [1, 2, 3]})
    judged = pl.DataFrame(
        {"query": ["a", "b", "c"], "product_id": ["Red mug", "Blue mug ", "Red mug"],
         "grade": [1, 0, 2], "split": ["train", "dev", "test"]}
    )  # fmt: skip
    products.write_parquet(tmp_path / "p.parquet")
    judged.write_parquet(tmp_path / "j.parquet")
    data = TableFiles(str(tmp_path / "p.parquet"), str(tmp_path / "j.parquet"))
    found = load(data, tmp_path)
    assert found.catalogue.ids.to_list() == ["Red mug", "Blue mug"]
    assert found.queries("dev").texts == ["b"]
    assert found.judgments("test").frame.row(0) == ("c", "Red mug", "2")


@pytest.mark.parametrize(
    "products, judged, message",
    [
        ("sku,maker\n1,x\n", "query,sku,rating\nq,1,good\n", r"missing column 'name'"),
        (PRODUCTS, "query,sku\nq,1\n", r"judged\.csv: missing column 'rating'"),
        (PRODUCTS, "query,sku,rating\n", r"judged\.csv: no rows below its header"),
        (PRODUCTS, "query,sku,rating\nq,9,good\n", 
         r"judged\.csv row 2: sku \(product_id\) '9' is not in"),
        (PRODUCTS, "query,sku,rating\nq,1,fine\n", 
         r"row 2: rating \(grade\) 'fine' is not in data\.grades"),
        (PRODUCTS, "query,sku,rating\nq,1,good\nq,1,bad\n", r"row 3: duplicate query_id"),
        (PRODUCTS, "query,sku,rating\n,1,good\n", r"row 2: column 'query' is empty"),
        (PRODUCTS + "1,Again,\n", "query,sku,rating\nq,1,good\n", r"row 5: duplicate sku \(prod"),
        (PRODUCTS, "query,query_id,sku,rating\na,7,1,good\nb,7,2,bad\n",
         r"row 3: query '7' has another query \('b'\)"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(products: str, judged: str, message: str, tmp_path: Path) -> None:
    files = write(tmp_path, products, judged)
    data = TableFiles(**files, columns=COLUMNS, grades={"good": 3, "bad": 0})
    with pytest.raises(InputError, match=message):
        load(data, tmp_path)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_unknown_names_and_files_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path, PRODUCTS, JUDGED, "txt")
    with pytest.raises(InputError, match=r"columns has 'colr', which is not a known field"):
        TableFiles(**files, columns={"colr": "x"})
    with pytest.raises(InputError, match=r"neither \.csv, \.tsv nor \.parquet"):
        load(TableFiles(**files), tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load(TableFiles(str(tmp_path / "none.csv"), files["judgments"]), tmp_path)


def test_other_columns_are_attributes_that_can_be_filtered(tmp_path: Path) -> None:
    products = "title,price,size\nRed mug,9.5,S\nBlue mug,20,\nGreen mug,11,L\n"
    judged = "query,product_id,grade\n" + "".join(f"mug {n},Red mug,1\n" for n in range(10))
    found = load(TableFiles(**write(tmp_path, products, judged)), tmp_path)
    shown = Products(found.catalogue)
    assert set(shown.fields) == {"price", "size"}
    titles = found.catalogue.all_texts(("title",))
    for filters, wanted in (
        ({"price": Range(10, None)}, {"Blue mug", "Green mug"}),
        ({"price": Range(None, 11), "size": ["L", "S"]}, {"Red mug", "Green mug"}),
        ({"size": ["L"]}, {"Green mug"}),
    ):
        mask = shown.mask(filters)
        assert mask is not None
        assert {titles[row] for row in mask.nonzero()[0]} == wanted


def test_a_name_among_numbers_is_named(tmp_path: Path) -> None:
    products = "title\nRed mug\nBlue mug\n"
    judged = "query,product_id,grade\nmug,Red mug,3\nmug,Blue mug,good\n"
    with pytest.raises(InputError, match=r"judged\.csv row 3: grade 'good' is no number \(others"):
        load(TableFiles(**write(tmp_path, products, judged)), tmp_path)
