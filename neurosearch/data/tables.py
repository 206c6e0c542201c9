"""Your own data as two tables: products, and judgments of queries. CSV, TSV or parquet.

A judgment is a row with a query text, a product and a grade. Without a column of product ids a
product is its title, and equal titles are one product (the first row is kept). Columns of products
that have no place of their own, such as `price`, are their attributes (JSON): a server filters by
them. Without a column of query ids a query is its text. Without a column of splits, `data.splits`
or `data.folds` make them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import PRODUCT_SCHEMA, SPLITS
from neurosearch.data import base, requirements
from neurosearch.data.reading import read_delimited, read_parquet

PRODUCT_COLUMNS = tuple(PRODUCT_SCHEMA)
JUDGMENT_COLUMNS = ("query", "query_id", "product_id", "grade", "split")
DEFAULT_SPLITS = {"train": 0.6, "dev": 0.2, "test": 0.2}


@dataclass(frozen=True)
class TableFiles(base.Data):
    """Attributes:
    products, judgments: the two files.
    columns: our column names and yours, such as `{title: name, grade: rating}`; columns that
        already have our names may be omitted.
    grades: your names of grades and what is written for them, such as `{good: 3, bad: 0}`; null
        where grades are numbers, or labels that the gain knows.
    """

    choice: ClassVar[str] = "tables"
    products: str = content(content_digest)
    judgments: str = content(content_digest)
    columns: Mapping[str, str] | None = None
    grades: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {*PRODUCT_COLUMNS, *JUDGMENT_COLUMNS}
        strange = [name for name in self.columns or {} if name not in known]
        if strange:
            message = ", ".join(sorted(known))
            raise self.error(
                "columns", f"has {strange[0]!r}, which is not a known field ({message})"
            )
        for name, value in (self.grades or {}).items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value):
                raise self.error("grades", f"gives {str(name)!r} {value!r}, which is no number")

    def label(self) -> str:
        return self.name or Path(self.products).stem

    def tables(self, runtime: Runtime) -> base.Tables:
        catalogue, has_ids = self._products()
        judged = self._judgments(catalogue["product_id"], has_ids)
        slices = ["split"] if "split" in judged.columns else []
        queries = judged.select("query_id", pl.col("query").alias("text"), *slices)
        queries = queries.unique("query_id", keep="first", maintain_order=True)
        judgments = judged.select("query_id", "product_id", label="grade")
        return base.Tables([catalogue.drop("row")], queries, judgments)

    def default_splits(self, queries: pl.DataFrame) -> Mapping[str, float] | None:
        return None if "split" in queries.columns else DEFAULT_SPLITS

    def _read(self, file: str, wanted: tuple[str, ...], needed: tuple[str, ...]) -> pl.DataFrame:
        """The wanted columns under our names, as String, with `row`."""
        path = requirements.require_file(Path(file), "a CSV, TSV or parquet file of your own")
        yours = {name: (self.columns or {}).get(name, name) for name in wanted}
        if path.suffix == ".parquet":
            frame = read_parquet(path).with_row_index("row", 1)
        elif path.suffix in (".csv", ".tsv"):
            frame = read_delimited(path, None, "\t" if path.suffix == ".tsv" else ",")
        else:
            raise InputError(f"{path}: neither .csv, .tsv nor .parquet")
        # A map may be meant for the other file alone.
        theirs = set(frame.columns)
        yours = {
            ours: ours if name not in theirs and ours in theirs else name
            for ours, name in yours.items()
        }
        missing = [yours[name] for name in needed if yours[name] not in frame.columns]
        if missing:
            has = ", ".join(c for c in frame.columns[:20] if c != "row")
            hint = "data.columns maps our names to yours"
            raise InputError(f"{path}: missing column {missing[0]!r} (it has {has}; {hint})")
        kept = {ours: name for ours, name in yours.items() if name in frame.columns}
        columns = [pl.col(name).cast(pl.String).alias(ours) for ours, name in kept.items()]
        rest = [c for c in frame.columns if c != "row" and c not in kept.values()]
        if rest and wanted is PRODUCT_COLUMNS and "attributes" not in kept:
            values = pl.struct(pl.col(name).cast(pl.String) for name in rest)
            columns.append(values.struct.json_encode().alias("attributes"))
        if frame.is_empty():
            raise InputError(f"{path}: no rows below its header")
        try:
            return frame.select(pl.col("row").cast(pl.Int64), *columns)
        except pl.exceptions.PolarsError as error:
            raise InputError(f"{path}: {str(error).splitlines()[0]}") from None

    def _named(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
        """The frame with your names beside ours, for errors, and these names by ours."""
        yours = {ours: (self.columns or {}).get(ours, ours) for ours in frame.columns}
        names = {o: o if o == y else f"{y} ({o})" for o, y in yours.items()}
        return frame.rename(names), names

    def _products(self) -> tuple[pl.DataFrame, bool]:
        """The products, and whether they have ids, not titles alone."""
        frame = self._read(self.products, PRODUCT_COLUMNS, ("title",))
        path = Path(self.products)
        shown, names = self._named(frame)
        requirements.require_present(path, shown, names["title"])
        texts = [c for c in frame.columns if c not in ("row", "product_id", "attributes")]
        frame = frame.with_columns(base.clean_text(c) for c in texts)
        if "product_id" in frame.columns:
            requirements.require_present(path, shown, names["product_id"])
            requirements.require_unique(path, shown, names["product_id"])
            return frame, True
        frame = frame.with_columns(product_id=_title_key("title"))
        return frame.unique("product_id", keep="first", maintain_order=True), False

    def _judgments(self, ids: pl.Series, has_ids: bool) -> pl.DataFrame:
        path = Path(self.judgments)
        frame = self._read(self.judgments, JUDGMENT_COLUMNS, ("query", "product_id", "grade"))
        shown, names = self._named(frame)
        requirements.require_present(
            path, shown, *(names[c] for c in ("query", "product_id", "grade"))
        )
        if not has_ids:
            frame = frame.with_columns(product_id=_title_key("product_id"))
        if "query_id" not in frame.columns:
            frame = frame.with_columns(
                query_id=pl.col("query").str.replace_all(r"\s+", " ").str.strip_chars()
            )
        requirements.require_present(path, frame, "query_id")
        shown, names = self._named(frame)
        where = Path(self.products).name
        requirements.require_known(path, shown, names["product_id"], ids, where)
        requirements.require_unique(path, frame, "query_id", "product_id")
        for column in ("query", "split"):
            if column in frame.columns:
                _require_one(path, frame, column)
        if "split" in frame.columns:
            requirements.require_known(path, frame, "split", pl.Series(SPLITS), ", ".join(SPLITS))
        return self._graded(path, frame)

    def _graded(self, path: Path, frame: pl.DataFrame) -> pl.DataFrame:
        if self.grades is None:
            number = pl.col("grade").cast(pl.Float64, strict=False)
            endless = frame.filter(~number.is_finite().fill_null(True))
            if endless.height:
                row, grade = endless[0, "row"], endless[0, "grade"]
                raise InputError(f"{path} row {row}: grade {grade!r} is no finite number")
            named = frame.filter(number.is_null())
            if 0 < named.height < frame.height:
                row, grade = named[0, "row"], named[0, "grade"]
                hint = "others are numbers; data.grades gives names numbers"
                raise InputError(f"{path} row {row}: grade {grade!r} is no number ({hint})")
            return frame
        known = pl.Series([str(name) for name in self.grades])
        shown, names = self._named(frame)
        requirements.require_known(path, shown, names["grade"], known, "data.grades")
        numbers = {str(name): f"{value:g}" for name, value in self.grades.items()}
        return frame.with_columns(grade=pl.col("grade").replace_strict(numbers))


def _title_key(column: str) -> pl.Expr:
    """A title as an id: white space squeezed, at most 500 characters."""
    cleaned = pl.col(column).str.replace_all(r"\s+", " ").str.strip_chars()
    return cleaned.str.slice(0, 500)


def _require_one(path: Path, frame: pl.DataFrame, column: str) -> None:
    """Raise InputError where rows of one query differ in a column."""
    firsts = frame.group_by("query_id").agg(pl.col(column).first().alias("first"))
    wrong = frame.join(firsts, on="query_id", maintain_order="left").filter(
        pl.col(column) != pl.col("first")
    )
    if wrong.height:
        row, query, value = wrong[0, "row"], wrong[0, "query_id"], wrong[0, column]
        raise InputError(f"{path} row {row}: query {query!r} has another {column} ({value!r})")
