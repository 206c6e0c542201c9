"""Tags by hand: brands, colours and sizes get weight, what is not wanted loses some."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from neurosearch.core.query import Query
from neurosearch.core.runtime import Runtime
from neurosearch.data.tables import TableFiles
from neurosearch.query.tags import Tags

ROWS = [("Acme Tools", "red"), ("Acme", "dark red"), ("Zed", "blue"), ("Once", "42")]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tags")
    rows = [row for row in ROWS[:3] for _ in range(3)] + ROWS[3:]
    products = {"brand": [b for b, _ in rows], "colour": [c for _, c in rows]}
    products["title"] = [f"thing {n}" for n in range(len(rows))]
    pl.DataFrame(products).write_csv(folder / "products.csv")
    judged = {"query": [f"thing {n}" for n in range(10)], "product_id": ["thing 1"] * 10}
    pl.DataFrame({**judged, "grade": [1] * 10}).write_csv(folder / "judged.csv")
    files = {name: str(folder / f"{name}.csv") for name in ("products", "judged")}
    return TableFiles(files["products"], files["judged"]).dataset()


def read(shop, runtime: Runtime, text: str, **options: object) -> Query:
    (query,) = Tags(**options).fitted(shop).reader(runtime).read([text])
    return query


def test_names_and_sizes_get_weight(shop, shop_runtime: Runtime) -> None:
    query = read(shop, shop_runtime, "Acme Tools saw dark-red 12 in")
    assert (query.text, query.words) == (query.words, "Acme Tools saw dark-red 12 in")
    weights = {term.token: term.weight for term in query.terms}
    assert weights == dict.fromkeys(("acm", "tool", "dark", "red", "12", "in", "12in"), 0.5)
    why = "acme tools: brand, dark red: colour, 12 in: size"
    assert query.notes[0].why == why
    # One product has it; a number is no name.
    for text in ("once", "42", "saw", ""):
        assert read(shop, shop_runtime, text) == Query.of(text)
    assert read(shop, shop_runtime, "2x4 board").notes[0].why == "2x4: size"


def test_what_is_not_wanted_counts_less(shop, shop_runtime: Runtime) -> None:
    query = read(shop, shop_runtime, "zed lamp without blue shade please", unwanted=0.25)
    assert query.text == "zed lamp without blue shade please"
    assert query.words == "zed lamp without please"
    weights = {term.token: term.weight for term in query.terms}
    assert weights == {"zed": 0.5, "blue": 0.25, "shade": 0.25}
    assert query.notes[0].why == "zed: brand, blue shade: not wanted"
    none = read(shop, shop_runtime, "lamp no blue", unwanted=0.0)
    assert (none.words, none.terms) == ("lamp no", ())
    assert read(shop, shop_runtime, "no blue").words == "no"  # never empty


def test_without_these_fields_there_are_sizes_only(
    shop, shop_runtime: Runtime, runtime: Runtime, tmp_path: Path, capsys
) -> None:
    (tmp_path / "p.csv").write_text("title\nmug\nlamp\n")
    rows = "".join(f"mug {n},mug,1\n" for n in range(10))
    (tmp_path / "j.csv").write_text(f"query,product_id,grade\n{rows}")
    bare = TableFiles(str(tmp_path / "p.csv"), str(tmp_path / "j.csv")).dataset()
    assert read(bare, runtime, "acme 5 ft").notes[0].why == "5 ft: size"
