"""ESCI: published schema, locale and version, official test split, labels refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.esci import STEM, Esci


def example(**changes: Any) -> dict[str, Any]:
    return {
        "example_id": 0,
        "query": "mug",
        "query_id": 1,
        "product_id": "A",
        "product_locale": "us",
        "esci_label": "E",
        "small_version": 1,
        "large_version": 1,
        "split": "train",
    } | changes


def product(product_id: str, locale: str = "us", **changes: Any) -> dict[str, Any]:
    return {
        "product_id": product_id,
        "product_title": f"title {product_id}",
        "product_description": None,
        "product_bullet_point": None,
        "product_brand": "B",
        "product_color": None,
        "product_locale": locale,
    } | changes


EXAMPLES = [
    example(),
    example(product_id="B", esci_label="S"),
    example(query_id=2, query="lamp", product_id="B", split="test"),
    example(query_id=3, query="big", product_id="A", small_version=0, split="test"),
    example(query_id=4, query="taza", product_locale="es"),
]
PRODUCTS = [
    product("A", product_description="<p>A &amp; B</p>\n<br>"),
    product("A", "es"),
    product("B"),
    product("C"),
]


def write(
    folder: Path,
    examples: list[dict[str, Any]] = EXAMPLES,
    products: list[dict[str, Any]] = PRODUCTS,
    **config: Any,
) -> Esci:
    pl.DataFrame(examples).write_parquet(folder / f"{STEM}_examples.parquet")
    pl.DataFrame(products).write_parquet(folder / f"{STEM}_products.parquet")
    return Esci(str(folder), **config)


def test_locale_and_version_are_kept_apart(runtime: Runtime, tmp_path: Path) -> None:
    folder = runtime.store.ensure(write(tmp_path).dataset())
    queries = pl.read_parquet(folder / "queries.parquet")
    assert queries.select("query_id", "text").rows() == [("1", "mug"), ("2", "lamp")]
    assert queries.filter(pl.col("query_id") == "2")["split"].to_list() == ["test"]
    products = pl.read_parquet(folder / "products.parquet")
    assert products["product_id"].to_list() == ["A", "B", "C"]
    assert products["description"][0] == "A & B"
    large = runtime.store.ensure(write(tmp_path, version="large").dataset())
    assert pl.read_parquet(large / "queries.parquet").height == 3
    judged = runtime.store.ensure(write(tmp_path, corpus="judged").dataset())
    assert pl.read_parquet(judged / "products.parquet")["product_id"].to_list() == ["A", "B"]


def test_dev_is_carved_out_of_train_queries_only(runtime: Runtime, tmp_path: Path) -> None:
    many = [example(query_id=n, query=f"q{n}", split="train") for n in range(400)]
    many += [example(query_id=n, query=f"q{n}", split="test") for n in range(400, 500)]
    folder = runtime.store.ensure(write(tmp_path, many, dev_fraction=0.2).dataset())
    counts = dict(pl.read_parquet(folder / "queries.parquet").group_by("split").len().iter_rows())
    assert counts["test"] == 100
    assert 50 < counts["dev"] < 110
    assert counts["train"] + counts["dev"] == 400


def test_sources_become_a_slice(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / f"{STEM}_sources.csv").write_text("query_id,source\n1,negations\n")
    folder = runtime.store.ensure(write(tmp_path).dataset())
    assert pl.read_parquet(folder / "queries.parquet")["source"].to_list() == ["negations", None]


@pytest.mark.parametrize(
    "examples, products, message",
    [
        ([example(esci_label="exact")], PRODUCTS, "row 1: esci_label 'exact' is not in E, S, C, I"),
        (
            [example(product_id="Z")],
            PRODUCTS,
            "row 1: product_id 'Z' is not in .*_products.parquet",
        ),
        ([example(), example()], PRODUCTS, "row 2: duplicate query_id/product_id '1/A'"),
        (
            EXAMPLES,
            [product("A"), product("A")],
            "row 2: duplicate product_locale/product_id 'us/A'",
        ),
        (
            [example(), example(product_id="B", split="test")],
            PRODUCTS,
            "query 1 is in train and in",
        ),
        ([example(product_locale="jp")], PRODUCTS, "no judgments of locale 'us'"),
    ],
)
def test_bad_rows_are_named(runtime: Runtime, tmp_path: Path, examples, products, message) -> None:
    with pytest.raises(InputError, match=message):
        runtime.get(write(tmp_path, examples, products).dataset())


def test_missing_column_and_lfs_pointer_are_named(runtime: Runtime, tmp_path: Path) -> None:
    without = [{k: v for k, v in e.items() if k != "esci_label"} for e in EXAMPLES]
    with pytest.raises(InputError, match="missing column 'esci_label'"):
        runtime.get(write(tmp_path, without).dataset())
    (tmp_path / "lfs").mkdir()
    data = write(tmp_path / "lfs")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "lfs" / f"{STEM}_products.parquet").write_bytes(pointer)
    with pytest.raises(InputError, match="Git LFS left a pointer"):
        runtime.get(data.dataset())


REAL = Path(os.environ.get("NEUROSEARCH_DATA", "nowhere")) / "esci_rows"


@pytest.mark.skipif(not REAL.is_dir(), reason="NEUROSEARCH_DATA has no esci_rows")
def test_real_rows_load(runtime: Runtime) -> None:
    data = runtime.get(Esci(str(REAL), version="large").dataset())
    assert len(data.catalogue) == 216
    assert pl.read_parquet(data.folder / "judgments.parquet")["label"].is_in(list("ESCI")).all()
