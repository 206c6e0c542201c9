"""What the queries of one locale may learn from, of a catalogue of several (`locale:id`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import PRODUCTS, SPLITS, Dataset, judgments_of, queries_of
from neurosearch.core.view import DataSource

LEARNT_FROM = SPLITS[:2]  # train and dev


@dataclass(frozen=True)
class OfLocale(DataSource):
    """The products of a locale, its train and dev queries, and their judgments.

    Attributes:
        whole: a view of the data set without the test split.
        locale: of the products, whose ids begin with it, and of the queries.
        column: of the queries, that holds the locale.
    """

    whole: Artifact[Dataset]
    splits: tuple[str, ...]
    locale: str
    column: str = "locale"

    def part_digest(self, part: str) -> str:
        kind, _, split = part.partition("/")
        there = kind == PRODUCTS or split in self.splits
        return super().part_digest(part) if there else ""

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.whole)
        mine = pl.col("product_id").str.starts_with(f"{self.locale}:")
        products = pl.scan_parquet(data.catalogue.path, glob=False).filter(mine)
        products.sink_parquet(folder / "products.parquet")
        frames = [data.queries(split).frame for split in self.splits]
        queries = pl.concat([one.filter(pl.col(self.column) == self.locale) for one in frames])
        judged = [
            data.judgments(split).frame.with_columns(split=pl.lit(split)) for split in self.splits
        ]
        kept = pl.concat(judged).join(queries, on="query_id", how="semi").filter(mine)
        queries.write_parquet(folder / "queries.parquet")
        kept.write_parquet(folder / "judgments.parquet")
        found = pl.scan_parquet(folder / "products.parquet", glob=False).select(pl.len())
        return {"products": found.collect().item(), "queries": queries.height}

    def load(self, folder: Path) -> Dataset:
        parts = [PRODUCTS, *map(queries_of, self.splits), *map(judgments_of, self.splits)]
        return Dataset(folder, self.locale, frozenset(parts))


def of_locale(data: Artifact[Dataset], locale: str, column: str) -> OfLocale:
    """The part of a data set that one locale's queries may learn from.

    Args:
        data: a data set of several locales, or a view of one.
        locale: such as `es`.
        column: of the queries, that holds the locale.

    Returns:
        The part as an artifact; splits that the data set lacks are left out.
    """
    stored: Any = data.stored()
    splits = tuple(split for split in LEARNT_FROM if stored.part_digest(queries_of(split)))
    whole = view.learning(data, *splits) if splits else view.products(data)
    return OfLocale(whole, splits, locale, column)
