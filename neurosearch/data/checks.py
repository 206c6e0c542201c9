"""Checks of the tables that any loader gives: ids, texts, judgments."""

from __future__ import annotations

import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.types import (
    PRODUCT_SCHEMA,
    SPLITS,
)
from neurosearch.data.reading import LONGEST_ID

LONGEST_TEXT = 1_000_000  # characters of a product's field: what all engines index whole


LONGEST_QUERY = 10_000


def check_lengths(frame: pl.DataFrame, name: str) -> None:
    for column in (c for c, kind in PRODUCT_SCHEMA.items() if kind == pl.String()):
        text = pl.col(column).cast(pl.String)
        long = frame.filter(text.str.len_chars() > LONGEST_TEXT)
        if long.height:
            message = f"longer than {LONGEST_TEXT:,} characters (LONGEST_TEXT)"
            product = long[0, "product_id"]
            raise InputError(f"data {name!r}: the {column} of product {product!r} is {message}")


def check_ids(frame: pl.DataFrame, name: str, what: str, *columns: str) -> None:
    """Raise InputError for ids that are missing, blank, too long or, together, there twice."""
    for column in columns:
        value = pl.col(column)
        bad = frame.filter(
            value.is_null()
            | (value.str.strip_chars().str.len_chars() == 0)
            | (value.str.len_chars() > LONGEST_ID)
        )
        if bad.height:
            shown = str(bad[0, column])[:60]
            raise InputError(f"data {name!r}: a {what} has the {column} {shown!r}, which is no id")
    again = frame.filter(~pl.struct(columns).is_first_distinct())
    if again.height:
        shown = "/".join(str(again[0, column]) for column in columns)
        raise InputError(f"data {name!r}: the {what} {shown!r} is there twice")


def checked_queries(queries: pl.DataFrame, name: str) -> pl.DataFrame:
    """The queries. Raises InputError where they are none, or not all named, worded and split."""
    if queries.is_empty():
        raise InputError(f"data {name!r}: the source has no queries")
    check_ids(queries, name, "query", "query_id")
    seen = pl.col("text").str.contains(r"[^\s\p{C}]")
    blank = queries.filter(~seen.fill_null(False))
    if blank.height:
        raise InputError(f"data {name!r}: query {blank[0, 'query_id']!r} has no text")
    long = queries.filter(pl.col("text").str.len_chars() > LONGEST_QUERY)
    if long.height:
        message = f"is longer than {LONGEST_QUERY:,} characters (LONGEST_QUERY)"
        raise InputError(f"data {name!r}: query {long[0, 'query_id']!r} {message}")
    unknown = queries.filter(~pl.col("split").is_in(SPLITS).fill_null(False))
    if unknown.height:
        raise InputError(f"data {name!r}: query {unknown[0, 'query_id']!r} is in no known split")
    return queries


def check_judgments(
    judgments: pl.DataFrame, queries: pl.DataFrame, products: pl.Series, name: str
) -> None:
    """Raise InputError for judgments without a label, of nothing that is there, or made twice."""
    check_ids(judgments, name, "judgment", "query_id", "product_id")
    blank = judgments.filter(pl.col("label").is_null())
    if blank.height:
        pair = f"{blank[0, 'query_id']}/{blank[0, 'product_id']}"
        raise InputError(f"data {name!r}: the judgment {pair!r} has no label")
    for column, known in (("query_id", queries["query_id"]), ("product_id", products)):
        strange = judgments.filter(~pl.col(column).is_in(known.implode()))
        if strange.height:
            shown = strange[0, column]
            raise InputError(
                f"data {name!r}: a judgment names the {column} {shown!r}, unknown here"
            )
