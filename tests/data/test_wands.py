"""WANDS: tab-separated, a column with a space, folds by query."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.wands import Wands

PRODUCT = (
    "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\t"
    "product_features\trating_count\taverage_rating\treview_count\n"
    '0\tsolid wood 20" bed\tBeds\tFurniture / Bedroom / Beds\ta bed\t'
    "color : oak|size : queen\t1\t4.5\t1\n"
    "1\tlamp\tLamps\tLighting / Lamps\t\t\t\t\t\n"
)
LABEL = "id\tquery_id\tproduct_id\tlabel\n"


def write(folder: Path, labels: str, queries: int = 50, **config: int) -> Wands:
    (folder / "product.csv").write_text(PRODUCT)
    lines = "".join(f"{n}\tquery {n}\tBeds\n" for n in range(queries))
    (folder / "query.csv").write_text("query_id\tquery\tquery_class\n" + lines)
    (folder / "label.csv").write_text(LABEL + labels)
    return Wands(str(folder), **config)


def test_products_are_canonical(runtime: Runtime, tmp_path: Path) -> None:
    folder = runtime.store.ensure(write(tmp_path, "0\t1\t0\tExact\n").dataset())
    bed, lamp = pl.read_parquet(folder / "products.parquet").iter_rows(named=True)
    assert bed["title"] == 'solid wood 20" bed'
    assert bed["category"] == "Furniture > Bedroom > Beds"
    assert bed["colour"] == "oak"
    assert bed["bullets"] == "color : oak; size : queen"
    assert lamp["description"] is None


def test_every_query_is_test_in_exactly_one_fold(runtime: Runtime, tmp_path: Path) -> None:
    splits = []
    for fold in range(5):
        folder = runtime.store.ensure(write(tmp_path, "0\t1\t0\tExact\n", fold=fold).dataset())
        splits.append(pl.read_parquet(folder / "queries.parquet")["split"].to_list())
    for of_query in zip(*splits, strict=True):
        assert sorted(of_query) == ["dev", "test", "train", "train", "train"]


def test_a_pair_labelled_twice_keeps_its_first_label(runtime: Runtime, tmp_path: Path) -> None:
    data = write(tmp_path, "0\t1\t0\tExact\n1\t1\t0\tPartial\n")
    folder = runtime.store.ensure(data.dataset())
    assert pl.read_parquet(folder / "judgments.parquet")["label"].to_list() == ["Exact"]


@pytest.mark.parametrize(
    "label, message",
    [
        ("0\t1\t9\tExact\n", r"label\.csv row 2: product_id '9' is not in product\.csv"),
        ("0\t99\t0\tExact\n", r"label\.csv row 2: query_id '99' is not in query\.csv"),
        ("0\t1\t0\tGood\n", r"label\.csv row 2: label 'Good' is not in Exact, Partial"),
    ],
)
def test_bad_labels_are_named(runtime: Runtime, tmp_path: Path, label: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runtime.get(write(tmp_path, label).dataset())


def test_duplicate_product_missing_file_and_fold(runtime: Runtime, tmp_path: Path) -> None:
    data = write(tmp_path, "0\t1\t0\tExact\n")
    with (tmp_path / "product.csv").open("a") as handle:
        handle.write("1\tagain\tLamps\tLighting\t\t\t\t\t\n")
    with pytest.raises(InputError, match="row 4: duplicate product_id '1', first at row 3"):
        runtime.get(data.dataset())
    with pytest.raises(InputError, match=r"fold must be 0 to 4, not 5"):
        runtime.get(Wands(str(tmp_path), fold=5).dataset())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"product\.csv: no such file"):
        runtime.get(Wands(str(tmp_path / "empty")).dataset())
