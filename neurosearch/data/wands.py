"""Wayfair WANDS (Chen et al., ECIR 2022): 42,994 products, 480 queries, dense judgments.

Three tab-separated files despite their `.csv`: product, query, label. The category's column
is published as `category hierarchy`, with a space. There is no train split, so the queries are
dealt into five folds (see `splitting`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import polars as pl

from neurosearch.core.digests import content, content_digest
from neurosearch.core.runtime import Runtime
from neurosearch.data import base, requirements
from neurosearch.data.reading import read_delimited

PUBLISHED = "published at wayfair/WANDS, folder dataset"
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
    """Five folds of queries, unless `folds` or `splits` say otherwise."""

    choice: ClassVar[str] = "wands"
    path: str = content(content_digest)
    folds: int = field(default=5, kw_only=True)

    def tables(self, runtime: Runtime) -> base.Tables:
        folder = Path(self.path)
        products_file, products = _table(folder, "product.csv", PRODUCT)
        requirements.require_present(products_file, products, "product_name")
        requirements.require_unique(products_file, products, "product_id")
        queries_file, queries = _table(folder, "query.csv", ("query_id", "query"))
        requirements.require_present(queries_file, queries, "query")
        requirements.require_unique(queries_file, queries, "query_id")
        labels_file, labels = _table(folder, "label.csv", ("query_id", "product_id", "label"))
        requirements.require_known(
            labels_file, labels, "label", pl.Series(LABELS), "Exact, Partial…"
        )
        for frame, file, key in (
            (products, products_file, "product_id"),
            (queries, queries_file, "query_id"),
        ):
            requirements.require_known(labels_file, labels, key, frame[key], file.name)
        # The same pair was sometimes labelled twice; the publication's code keeps the first.
        labels = labels.unique(["query_id", "product_id"], keep="first", maintain_order=True)
        slices = [c for c in ("query_class",) if c in queries.columns]
        queries = queries.select(
            "query_id",
            pl.col("query").alias("text"),
            *slices,
        )
        return base.Tables([_canonical(products)], queries, labels)


def _table(folder: Path, name: str, columns: tuple[str, ...]) -> tuple[Path, pl.DataFrame]:
    file = requirements.require_file(folder / name, PUBLISHED)
    frame = read_delimited(file, columns, separator="\t", quote=None)
    requirements.require_present(
        file, frame, *(c for c in columns if c.endswith("_id") or c == "label")
    )
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
