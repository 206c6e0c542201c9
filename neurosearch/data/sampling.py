"""Samples by hash of an id, so that a smaller sample lies within every larger one."""

from __future__ import annotations

import polars as pl

from neurosearch.data.reading import hashed_fraction


def hashed(column: str, salt: str = "") -> pl.Expr:
    """Each id's place in [0, 1); another salt gives other places."""
    return pl.col(column).map_elements(lambda text: hashed_fraction(text, salt), pl.Float64)


def first_by_hash(frame: pl.DataFrame, column: str, count: int) -> pl.Expr:
    """Whether an id is among the frame's first `count`, in the order of their hashes."""
    ids = frame.select(column).unique().sort(hashed(column), column)[column]
    return pl.col(column).is_in(ids[:count].implode())
