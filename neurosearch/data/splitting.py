"""Splits and folds of any data set: deterministic, by query text, balanced by labels.

Queries of equal text are never apart: a split that has seen a query's twin has seen the query.
Groups of equal queries are ordered by their labels, then by a hash of their text, and dealt out one
after another to the split that is furthest below its share. So every split has about the same mix
of labels, and the same data always gives the same splits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.types import SPLITS
from neurosearch.data.reading import hashed_fraction


def check_splits(splits: Mapping[str, float] | None, folds: int, fold: int) -> None:
    """Raise InputError naming the config key for shares or folds that can't be."""
    if splits is not None:
        unknown = [name for name in splits if name not in SPLITS]
        if unknown:
            raise InputError(f"data.splits: {unknown[0]!r} is none of {', '.join(SPLITS)}")
        shares = list(splits.values())
        numbers = all(isinstance(x, int | float) and 0 < x <= 1 for x in shares)
        if not numbers or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise InputError(f"data.splits must be shares that add up to 1, not {dict(splits)}")
        if folds:
            raise InputError("data.splits and data.folds exclude one another: set one to null or 0")
    if folds and folds < 3:
        raise InputError(f"data.folds must be 0 (none) or at least 3 (train, dev, test): {folds}")
    if folds and not 0 <= fold < folds:
        raise InputError(f"data.fold must be 0 to {folds - 1}, not {fold}")
    if not folds and fold:
        raise InputError(f"data.fold={fold}, but data.folds=0: there are no folds")


def resplit(
    queries: pl.DataFrame,
    judgments: pl.DataFrame,
    splits: Mapping[str, float] | None,
    folds: int,
    fold: int,
) -> pl.DataFrame:
    """The queries with new splits.

    Args:
        queries: `query_id`, `text`.
        judgments: `query_id`, `label`.
        splits: the share of the queries for each split; None for folds.
        folds: equal parts, of which number `fold` is test, the next one dev, the others train.

    Raises:
        InputError: a split would have no query.
    """
    names = list(splits) if splits is not None else [str(part) for part in range(folds)]
    shares = list(splits.values()) if splits is not None else [1 / folds] * folds
    groups = _groups(queries, judgments)
    if splits is None and folds > groups.height:
        counts = f"data.folds={folds}, but there are {groups.height} different queries"
        raise InputError(f"{counts}: a fold would be empty")
    dealt = deal(groups["size"].to_list(), shares)
    parts = groups.select("key", part=pl.Series([names[place] for place in dealt], dtype=pl.String))
    keyed = queries.with_columns(key=_key()).join(parts, on="key", maintain_order="left")
    if splits is None:
        dev = str((fold + 1) % folds)
        part = pl.col("part")
        split = pl.when(part == str(fold)).then(pl.lit("test"))
        keyed = keyed.with_columns(
            part=split.when(part == dev).then(pl.lit("dev")).otherwise(pl.lit("train"))
        )
    found = set(keyed["part"].unique())
    missing = [name for name in (splits or SPLITS) if name not in found]
    if missing:
        raise InputError(
            f"data.splits, data.folds: {groups.height} different queries leave none for "
            f"{', '.join(missing)}"
        )
    return keyed.with_columns(split=pl.col("part")).drop("part", "key")


def deal(sizes: list[int], shares: list[float]) -> list[int]:
    """The part of each group: the one furthest below its share of what has been dealt."""
    counts = [0.0] * len(shares)
    parts, total = [], 0
    for size in sizes:
        total += size
        lacking = [share * total - count for share, count in zip(shares, counts, strict=True)]
        part = max(range(len(shares)), key=lambda place: (lacking[place], -place))
        counts[part] += size
        parts.append(part)
    return parts


def _key() -> pl.Expr:
    """Query texts that differ in case and white space only are equal."""
    return pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def _groups(queries: pl.DataFrame, judgments: pl.DataFrame) -> pl.DataFrame:
    """`key`, `size`: queries of equal text, ordered by the labels that they have, then by hash."""
    keyed = queries.select("query_id", key=_key())
    labels = (
        judgments.join(keyed, on="query_id")
        .group_by("key")
        .agg(pl.col("label").unique().sort().str.join("|").alias("mix"))
    )
    sizes = keyed.group_by("key").len("size")
    place = pl.col("key").map_elements(lambda text: hashed_fraction(text, "split"), pl.Float64)
    joined = sizes.join(labels, on="key", how="left").with_columns(place=place)
    return joined.sort("mix", "place", "key", nulls_last=True)
