"""Wayfair WANDS (Chen et al., ECIR 2022): 42,994 products, 480 queries, dense judgments.

Three tab-separated files despite their `.csv`: product, query, label. The category's column
is published as `category hierarchy`, with a space. There is no train split, so the queries
are dealt into five folds by hash: fold `fold` is test, the next one dev, the rest train.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import content, content_digest
from neurosearch.core.runtime import Runtime
from neurosearch.data import base
from neurosearch.data.reading import read_delimited

PUBLISHED = "published at wayfair/WANDS, folder dataset"
FOLDS = 5
LABELS = ("Exact", "Partial", "Irrelevant")
PRODUCT = (
    "product_id",
    "product_name",
    "product_class",
    "category hierarchy",
    "product_description",
    "product_features",
)


@dataclass(frozen=True)
class Wands(base.Data):
    """`fold`: which fifth of the queries is the test split (0 to 4)."""

    choice: ClassVar[str] = "wands"
    path: str = content(content_digest)
    fold: int = 0

    def population(self) -> base.Data:
        return replace(self, fold=0)

    def tables(self, runtime: Runtime) -> base.Tables:
        if not 0 <= self.fold < FOLDS:
            raise InputError(f"data.fold must be 0 to {FOLDS - 1}, not {self.fold}")
        folder = Path(self.path)
        products_file, products = _table(folder, "product.csv", PRODUCT)
        base.require_unique(products_file, products, "product_id")
        queries_file, queries = _table(folder, "query.csv", ("query_id", "query"))
        base.require_present(queries_file, queries, "query")
        base.require_unique(queries_file, queries, "query_id")
        labels_file, labels = _table(folder, "label.csv", ("query_id", "product_id", "label"))
        base.require_known(labels_file, labels, "label", pl.Series(LABELS), "Exact, Partial…")
        for frame, file, key in (
            (products, products_file, "product_id"),
            (queries, queries_file, "query_id"),
        ):
            base.require_known(labels_file, labels, key, frame[key], file.name)
        # The same pair was sometimes labelled twice; the publication's code keeps the first.
        labels = labels.unique(["query_id", "product_id"], keep="first", maintain_order=True)
        slices = [c for c in ("query_class",) if c in queries.columns]
        queries = queries.select(
            "query_id",
            pl.col("query").alias("text"),
            pl.col("query_id").map_elements(self._split, pl.String).alias("split"),
            *slices,
        )
        return base.Tables([_canonical(products)], queries, labels)

    def _split(self, query_id: str) -> str:
        fold = int(base.hashed_fraction(query_id) * FOLDS)
        if fold == self.fold:
            return "test"
        return "dev" if fold == (self.fold + 1) % FOLDS else "train"


def _table(folder: Path, name: str, columns: tuple[str, ...]) -> tuple[Path, pl.DataFrame]:
    file = base.require_file(folder / name, PUBLISHED)
    frame = read_delimited(file, columns, separator="\t", quote=None)
    base.require_present(file, frame, *(c for c in columns if c.endswith("_id") or c == "label"))
    return file, frame


def _canonical(products: pl.DataFrame) -> pl.DataFrame:
    features = pl.col("product_features").str.split("|")
    colour = features.list.eval(
        pl.element().filter(pl.element().str.contains(r"^\s*color\s*:"))
    ).list.first()
    return products.select(
        "product_id",
        base.clean_text("product_name").alias("title"),
        pl.col("product_features").str.replace_all("|", "; ", literal=True).alias("bullets"),
        base.clean_text("product_description").alias("description"),
        colour.str.replace(r"^\s*color\s*:\s*", "").alias("colour"),
        pl.col("category hierarchy")
        .str.split("/")
        .list.eval(pl.element().str.strip_chars())
        .list.join(" > ")
        .alias("category"),
        pl.struct(
            c
            for c in ("product_class", "rating_count", "average_rating", "review_count")
            if c in products.columns
        )
        .struct.json_encode()
        .alias("attributes"),
    )
