"""Home Depot product search relevance (Kaggle 2016): titles, optional descriptions and attributes.

`train.csv` (plain or zipped; latin-1): `id, product_uid, product_title, search_term, relevance`,
relevance 1.0 to 3.0, the mean of three or more raters. `product_descriptions.csv`
(`product_uid, product_description`) and `attributes.csv` (`product_uid, name, value`) are read
where they lie beside it. The publication's own test file has no labels, so the split is by
query: sha1(search_term) mod 10 in {0, 1} is test, 2 is dev, the rest train.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data import base, requirements
from neurosearch.data.reading import read_delimited

COLUMNS = ("product_uid", "product_title", "search_term", "relevance")


@dataclass(frozen=True)
class HomeDepot(base.Data):
    """`path`: the folder with the published files."""

    choice: ClassVar[str] = "home_depot"
    path: str = content(content_digest)

    def tables(self, runtime: Runtime) -> base.Tables:
        folder = Path(self.path)
        file = _published(folder, "train.csv")
        pairs = _read(file).rename({"product_uid": "product_id", "search_term": "text"})
        pairs = pairs.with_columns(pl.col("relevance").cast(pl.Float64, strict=False).alias("r"))
        wrong = pairs.filter(~pl.col("r").is_between(1, 3).fill_null(False))
        if wrong.height:
            row, value = wrong[0, "row"], wrong[0, "relevance"]
            message = f"unknown label {value!r} (a number from 1 to 3 is expected)"
            raise InputError(f"{file} row {row}, column 'relevance': {message}")
        requirements.require_unique(file, pairs, "text", "product_id")
        # Fifteen products of the publication have two spellings of their title: the first counts.
        titles = pairs.select("product_id", "product_title").unique(
            "product_id", keep="first", maintain_order=True
        )

        queries = (
            pairs.select("text")
            .unique(maintain_order=True)
            .with_columns(pl.col("text").map_elements(_sha1, pl.String).alias("sha1"))
            .select(
                pl.col("sha1").str.slice(0, 12).alias("query_id"),
                "text",
                pl.col("sha1").map_elements(_split, pl.String).alias("split"),
            )
        )
        judgments = pairs.join(queries.select("text", "query_id"), on="text").select(
            "query_id", "product_id", pl.col("r").cast(pl.String).alias("label")
        )
        products = titles.select("product_id", pl.col("product_title").alias("title"))
        products = _with_descriptions(products, folder)
        products = _with_attributes(products, folder)
        return base.Tables([products], queries, judgments)


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def _split(sha1: str) -> str:
    bucket = int(sha1, 16) % 10
    return "test" if bucket < 2 else "dev" if bucket == 2 else "train"


def _published(folder: Path, name: str) -> Path:
    zipped = folder / f"{name}.zip"
    role = "the Home Depot Product Search Relevance competition publishes it, plain or .zip"
    if requirements.is_there(folder / name):
        return folder / name
    return (
        zipped if requirements.is_there(zipped) else requirements.require_file(folder / name, role)
    )


def _read(file: Path, columns: tuple[str, ...] = COLUMNS) -> pl.DataFrame:
    frame = read_delimited(file, columns, encoding="latin-1")
    requirements.require_present(file, frame, *columns)
    return frame


def _with_descriptions(products: pl.DataFrame, folder: Path) -> pl.DataFrame:
    names = ("product_descriptions.csv", "product_descriptions.csv.zip")
    if not any(requirements.is_there(folder / name) for name in names):
        return products
    file = _published(folder, names[0])
    frame = _read(file, ("product_uid", "product_description"))
    frame = frame.rename({"product_uid": "product_id", "product_description": "description"})
    requirements.require_unique(file, frame, "product_id")
    described = frame.select("product_id", base.clean_text("description"))
    return products.join(described, on="product_id", how="left", maintain_order="left")


def _with_attributes(products: pl.DataFrame, folder: Path) -> pl.DataFrame:
    names = ("attributes.csv", "attributes.csv.zip")
    if not any(requirements.is_there(folder / name) for name in names):
        return products
    file = _published(folder, names[0])
    frame = read_delimited(file, ("product_uid", "name", "value"), encoding="latin-1")
    # The published file ends in rows without a product; they say nothing.
    frame = frame.drop_nulls(["product_uid", "name", "value"])
    name, value = pl.col("name"), pl.col("value")
    is_bullet = name.str.starts_with("Bullet")
    merged = frame.group_by(pl.col("product_uid").alias("product_id")).agg(
        value.filter(name == "MFG Brand Name").first().alias("brand"),
        value.filter(is_bullet).sort_by(name.filter(is_bullet)).str.join(" ").alias("bullets"),
        value.filter(name.str.contains("Color")).first().alias("colour"),
    )
    return products.join(merged, on="product_id", how="left", maintain_order="left")
