"""Kinds of queries that a page compares systems on."""

from __future__ import annotations

from typing import Any

import polars as pl

from neurosearch.core.types import Dataset

NEGATION = r"(?i)\b(no|not|non|without|except|free)\b"
MEASURE = r"(?i)^\d+(\.\d+)?(in|ft|mm|cm|oz|lb|gal|w|v|a|x\d+)\.?$"
GIVEN = ("source", "popularity")  # columns of the queries that are slices already
MOST = 12  # values of such a column


def slices_of(queries: pl.DataFrame, source: Dataset, judged: pl.DataFrame) -> list[dict[str, Any]]:
    """For each kind of slice its name, its values, and the value's number of every query.

    Words of the query (1-2, 3-4, 5 or more), negation, whether it names a brand of the catalogue
    or a model number, how its judgments are mixed, and slice columns that the data has.
    """
    text = pl.col("text")
    words = text.str.split(" ").list.len()
    length = (
        pl.when(words <= 2)
        .then(pl.lit("1-2 words"))
        .when(words <= 4)
        .then(pl.lit("3-4 words"))
        .otherwise(pl.lit("5 or more words"))
    )
    negated = (
        pl.when(text.str.contains(NEGATION)).then(pl.lit("negation")).otherwise(pl.lit("none"))
    )
    frame = queries.with_columns(
        length.alias("query length"),
        negated.alias("negation"),
        _named(queries, source).alias("brand or model"),
        _mix(queries, judged).alias("label mix"),
    )
    names = ["query length", "negation", "brand or model", "label mix"]
    names += [c for c in GIVEN if c in queries.columns and queries[c].n_unique() <= MOST]
    slices = []
    for name in names:
        column = frame[name].cast(pl.String).fill_null("unknown")
        values = sorted(column.unique().to_list())
        if len(values) > 1:
            numbers = {value: number for number, value in enumerate(values)}
            numbered = column.replace_strict(numbers, return_dtype=pl.Int32)
            slices.append({"name": name, "values": values, "of": numbered.to_list()})
    return slices


def _named(queries: pl.DataFrame, source: Dataset) -> pl.Series:
    """Whether a word of the query is a brand, or looks like a model's number (and no measure)."""
    words = queries.select("query_id", word=pl.col("text").str.to_lowercase().str.split(" "))
    words = words.explode("word")
    columns = pl.read_parquet_schema(source.catalogue.path)
    brand = pl.lit(False)
    if "brand" in columns:
        brands = pl.read_parquet(source.catalogue.path, columns=["brand"], glob=False)["brand"]
        first = brands.str.to_lowercase().str.split(" ").list.first().drop_nulls().unique()
        brand = pl.col("word").is_in(first.filter(first.str.len_chars() > 2).implode())
    model = pl.col("word").str.contains(r"\d") & pl.col("word").str.contains(r"[a-z]")
    model &= (pl.col("word").str.len_chars() >= 4) & ~pl.col("word").str.contains(MEASURE)
    by_query = words.group_by("query_id").agg(brand=brand.any(), model=model.any())
    placed = queries.select("query_id").join(
        by_query, on="query_id", how="left", maintain_order="left"
    )
    named = (
        pl.when(pl.col("model"))
        .then(pl.lit("a model number"))
        .when(pl.col("brand"))
        .then(pl.lit("a brand"))
        .otherwise(pl.lit("neither"))
    )
    return placed.select(named.alias("named"))["named"]


def _mix(queries: pl.DataFrame, judged: pl.DataFrame) -> pl.Series:
    """The label that most of a query's judged products have."""
    counts = judged.group_by("query_id", "label").len()
    ordered = counts.sort(["len", "label"], descending=[True, False])
    top = ordered.group_by("query_id", maintain_order=True).agg(pl.col("label").first())
    placed = queries.select("query_id").join(top, on="query_id", how="left", maintain_order="left")
    return ("mostly " + placed["label"].fill_null("unjudged")).alias("mix")
