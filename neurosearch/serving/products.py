"""Products as a server shows them: their fields, filters on these, and counts of their values.

Filters are fields of the catalogue (`brand`, `colour`, `category`) and keys of its JSON
`attributes`. A category matches with all that lies below it. Numbers take a range.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.filters import ABOVE, Filters, Range
from neurosearch.core.types import Catalogue

FIELDS = ("brand", "colour", "category")
SHOWN = ("product_id", "title", *FIELDS)
SAMPLE = 2_000  # products whose attributes are looked through for keys
MASKS = 64  # filters whose products are kept


class UnknownFieldError(Exception):
    """A filter or facet names a field that the catalogue lacks. The message lists what it has."""


@dataclass(frozen=True)
class Column:
    """A field by product: `codes` (N int32, -1 for none) into `values`."""

    codes: np.ndarray
    values: list[str]

    @cached_property
    def numbers(self) -> np.ndarray:
        """The values as numbers (float64), NaN where they are none."""
        series = pl.Series(self.values, dtype=pl.String).cast(pl.Float64, strict=False)
        return series.fill_null(float("nan")).to_numpy()


class Products:
    """A catalogue in memory, but for its pictures and long texts."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._frame = pl.read_parquet(catalogue.path, columns=list(SHOWN), glob=False)
        self._columns: dict[str, Column] = {}
        self._masks: dict[str, np.ndarray] = {}
        self._lock = Lock()
        ids = self._frame["product_id"].to_list()
        self.rows = {product: row for row, product in enumerate(ids)}

    def __len__(self) -> int:
        return self._frame.height

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """What can be filtered: fields that some product has, and keys of the attributes."""
        there = [name for name in FIELDS if self._frame[name].str.len_chars().max()]
        part = pl.scan_parquet(self.catalogue.path, glob=False).select("attributes")
        texts = part.head(SAMPLE).collect()["attributes"].drop_nulls().to_list()
        keys = Counter(key for text in texts for key in json.loads(text))
        return (*there, *(key for key, _ in keys.most_common() if key not in SHOWN))

    def shown(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Id, title and fields of some products.

        Args:
            rows: of the catalogue.

        Returns:
            One dictionary each, in their order, without empty fields.
        """
        found = self._frame[rows].to_dicts()
        return [{key: value for key, value in one.items() if value} for one in found]

    def picture(self, row: int) -> bytes | None:
        """A product's picture, as it is stored.

        Args:
            row: of the catalogue.

        Returns:
            PNG or JPEG, or None.
        """
        part = pl.scan_parquet(self.catalogue.path, glob=False).select("image").slice(row, 1)
        content: bytes | None = part.collect()["image"][0]
        return content

    @cached_property
    def pictured(self) -> bool:
        """Whether any product has a picture."""
        part = pl.scan_parquet(self.catalogue.path, glob=False).select("image")
        return bool(part.select(pl.col("image").is_not_null().any()).collect().item())

    def column(self, name: str) -> Column:
        """A field of all products.

        Args:
            name: one of `fields`.

        Returns:
            Codes and values.

        Raises:
            UnknownFieldError: there is no such field.
        """
        if name not in self.fields:
            known = ", ".join(self.fields) or "none"
            raise UnknownFieldError(f"unknown field {name!r}; known are {known}")
        with self._lock:
            if name not in self._columns:
                self._columns[name] = coded(self._texts(name))
            return self._columns[name]

    def _texts(self, name: str) -> pl.Series:
        if name in FIELDS:
            return self._frame[name]
        part = pl.scan_parquet(self.catalogue.path, glob=False).select("attributes").collect()
        found = [json.loads(text).get(name) if text else None for text in part["attributes"]]
        texts = [None if value is None else str(value) for value in found]
        return pl.Series(name, texts, dtype=pl.String)

    def mask(self, filters: Filters) -> np.ndarray | None:
        """Which products pass all filters.

        Args:
            filters: by field, the values of which one must be there, or a range.

        Returns:
            N bool, or None where there are no filters.

        Raises:
            UnknownFieldError: there is no such field.
        """
        if not filters:
            return None
        key = repr(sorted(filters.items()))
        if key not in self._masks:
            passed = np.ones(len(self), dtype=bool)
            for name, wanted in filters.items():
                passed &= passing(name, self.column(name), wanted)
            with self._lock:
                while len(self._masks) >= MASKS:
                    self._masks.pop(next(iter(self._masks)))
                self._masks[key] = passed
        return self._masks[key]

    def without(self, name: str, filters: Filters) -> np.ndarray | None:
        """Which products pass the filters on other fields: a facet offers more of its own.

        Args:
            name: of the facet's field.
            filters: all of them.

        Returns:
            N bool, or None where there are no others.
        """
        return self.mask({key: wanted for key, wanted in filters.items() if key != name})

    def counts(self, name: str, rows: np.ndarray, most: int = 20) -> list[tuple[str, int]]:
        """How often each value of a field is there among some products.

        Args:
            name: one of `fields`.
            rows: of the products.
            most: values.

        Returns:
            Values and counts, the most frequent first, equal ones by value.
        """
        column = self.column(name)
        codes = column.codes[rows]
        found, counts = np.unique(codes[codes >= 0], return_counts=True)
        pairs = [(column.values[code], int(n)) for code, n in zip(found, counts, strict=True)]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:most]


def coded(texts: pl.Series) -> Column:
    """A column's distinct values and their numbers.

    Args:
        texts: N, empty or null where there is none.

    Returns:
        Codes and values, in ascending order.
    """
    texts = texts.set(texts.str.len_chars() == 0, None).alias("value")
    values = texts.drop_nulls().unique().sort()
    numbered = pl.DataFrame({"value": values, "code": np.arange(len(values), dtype=np.int32)})
    joined = texts.to_frame().join(numbered, on="value", how="left", maintain_order="left")
    return Column(joined["code"].fill_null(-1).to_numpy(), values.to_list())


def passing(name: str, column: Column, wanted: Sequence[str] | Range) -> np.ndarray:
    """Which products have one of the wanted values.

    Args:
        name: of the field; a `category` is a path.
        column: of all products.
        wanted: values, or a range.

    Returns:
        N bool.
    """
    if isinstance(wanted, Range):
        numbers = column.numbers
        if np.isnan(numbers).all():
            raise UnknownFieldError(f"{name!r} holds no numbers; name values instead of a range")
        good = ~np.isnan(numbers)
        good &= True if wanted.least is None else numbers >= wanted.least
        good &= True if wanted.most is None else numbers <= wanted.most
    elif name == "category":
        heads = tuple(f"{value}{ABOVE}" for value in wanted)
        is_wanted = set(wanted)
        good = np.array([v in is_wanted or v.startswith(heads) for v in column.values], dtype=bool)
    else:
        good = np.isin(np.array(column.values, dtype=object), list(wanted))
    passed: np.ndarray = np.append(good, False)[column.codes]  # code -1: no value, the last place
    return passed
