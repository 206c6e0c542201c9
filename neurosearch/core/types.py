"""What flows between roles: catalogues, queries, judgments, data sets, vectors, runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError, SealedError

SPLITS = ("train", "dev", "test")

# The canonical product: every loader fills these, with null where the source has nothing.
PRODUCT_SCHEMA: dict[str, pl.DataType] = {
    "product_id": pl.String(),
    "title": pl.String(),
    "brand": pl.String(),
    "bullets": pl.String(),
    "description": pl.String(),
    "colour": pl.String(),
    "category": pl.String(),  # a path, "department > category > type"
    "attributes": pl.String(),  # a JSON object of whatever else the source says
    "image": pl.Binary(),  # an encoded picture (PNG or JPEG)
}
TEXT_FIELDS = ("title", "brand", "bullets", "description", "colour", "category")


def check_fields(key: str, fields: Sequence[str]) -> None:
    """Raise InputError naming the config key where `fields` are not texts of a product.

    Args:
        key: the config key, for the error.
        fields: names of columns.
    """
    known = (*TEXT_FIELDS, "attributes")
    strange = [name for name in fields if name not in known]
    if strange or not fields:
        raise InputError(f"{key}: {list(fields)}; known are {', '.join(known)}")


@dataclass(frozen=True)
class Catalogue:
    """Products in a parquet file; row numbers are the internal product numbers."""

    path: Path

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def ids(self) -> pl.Series:
        """Product ids by row (String)."""
        return pl.read_parquet(self.path, columns=["product_id"], glob=False)["product_id"]

    @cached_property
    def rows_by_id(self) -> np.ndarray:
        """N int64: rows in ascending order of their ids."""
        return self.ids.arg_sort().to_numpy().astype(np.int64)

    @cached_property
    def id_order(self) -> np.ndarray:
        """N int64: the place of each row's id in ascending order of ids, for breaking ties."""
        order = np.empty(len(self.ids), dtype=np.int64)
        order[self.rows_by_id] = np.arange(len(self.ids))
        return order

    def batches(self, columns: Sequence[str], size: int = 20_000) -> Iterator[pl.DataFrame]:
        """Frames of at most `size` rows of these columns, in row order, in bounded memory.

        Args:
            columns: of the products.
            size: rows of a frame.

        Returns:
            An iterator of frames.
        """
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=size, columns=list(columns)):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame.select(columns)

    def texts(self, fields: Sequence[str], separator: str = " ") -> Iterator[list[str]]:
        """Batches of one text a product: its non-empty `fields` joined by `separator`.

        Args:
            fields: columns of the products.
            separator: between non-empty fields.

        Returns:
            An iterator of lists.
        """
        for frame in self.batches(fields):
            joined = frame.select(joined_text(fields, separator).alias("text"))
            yield joined["text"].to_list()

    def all_texts(self, fields: Sequence[str], separator: str = " ") -> list[str]:
        """One text a product, by row (`texts`).

        Args:
            fields: columns of the products.
            separator: between non-empty fields.

        Returns:
            N texts.
        """
        return [text for batch in self.texts(fields, separator) for text in batch]


def joined_text(fields: Sequence[str], separator: str) -> pl.Expr:
    """Expression: the non-empty fields joined; '' where all are empty.

    Args:
        fields: names of columns.
        separator: between non-empty fields.

    Returns:
        A String expression.
    """
    parts = [pl.when(pl.col(f).str.len_chars() > 0).then(pl.col(f)) for f in fields]
    return pl.concat_str(parts, separator=separator, ignore_nulls=True).fill_null("")


@dataclass(frozen=True)
class Queries:
    """Queries of one split: `query_id`, `text`, and slice columns; in file order."""

    split: str
    frame: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    @property
    def ids(self) -> pl.Series:
        return self.frame["query_id"]

    @property
    def texts(self) -> list[str]:
        return self.frame["text"].to_list()

    def processed(self, process: Callable[[list[str]], list[str]]) -> Queries:
        """The queries with other texts.

        Args:
            process: from the texts to as many texts.

        Returns:
            Queries of the same ids.
        """
        texts = pl.Series("text", process(self.texts), pl.String)
        return Queries(self.split, self.frame.with_columns(texts))


def places_of(ids: pl.Series, name: str, number: str) -> pl.DataFrame:
    """Ids and their places, for joins.

    Args:
        ids: distinct ids.
        name: of their column.
        number: of the column with the places, Int64.

    Returns:
        One row an id.
    """
    return pl.DataFrame({name: ids}).with_row_index(number).cast({number: pl.Int64})


@dataclass(frozen=True)
class Judgments:
    """Labels as published, for one split: `query_id`, `product_id`, `label` (String)."""

    split: str
    frame: pl.DataFrame


# Parts of a data set, which change apart from one another.
PRODUCTS, BEHAVIOUR = "products", "behaviour"


def queries_of(split: str) -> str:
    """The part that is a split's queries.

    Args:
        split: `train`, `dev` or `test`.

    Returns:
        A part's name.
    """
    return f"queries/{split}"


def pool_of(split: str) -> str:
    """The part that says which products were judged for a split's queries, without labels.

    Args:
        split: `train`, `dev` or `test`.

    Returns:
        A part's name.
    """
    return f"pool/{split}"


def judgments_of(split: str) -> str:
    """The part that is a split's judgments.

    Args:
        split: `train`, `dev` or `test`.

    Returns:
        A part's name.
    """
    return f"judgments/{split}"


@dataclass(frozen=True)
class Dataset:
    """A loaded data artifact: catalogue, queries, judgments, behaviour where there is any.

    `parts`: those that may be read (a view's, see `data.view`); None for all but the test split's
    judgments.
    """

    folder: Path
    name: str
    parts: frozenset[str] | None = None

    @cached_property
    def catalogue(self) -> Catalogue:
        self._open(PRODUCTS)
        return Catalogue(self.folder / "products.parquet")

    def queries(self, split: str) -> Queries:
        """Queries of a split.

        Args:
            split: `train`, `dev` or `test`.

        Returns:
            Queries in file order.

        Raises:
            InputError: for an unknown or an empty split.
        """
        self._open(queries_of(split))
        return Queries(split, self._of_split("queries.parquet", split))

    def has(self, split: str) -> bool:
        """Whether a split has queries.

        Args:
            split: `train`, `dev` or `test`.

        Returns:
            False for a split without queries.
        """
        self._open(queries_of(split))
        splits = (
            pl.scan_parquet(self.folder / "queries.parquet", glob=False).select("split").unique()
        )
        return split in splits.collect()["split"].to_list()

    def pool(self, split: str) -> pl.DataFrame:
        """`query_id`, `product_id` of what was judged for a split's queries, without labels.

        Args:
            split: `train`, `dev` or `test`.

        Returns:
            One row a judged pair.
        """
        self._open(pool_of(split))
        return self._of_split("judgments.parquet", split).select("query_id", "product_id")

    def judgments(self, split: str) -> Judgments:
        """Judgments of a split's queries.

        Args:
            split: `train`, `dev` or `test`.

        Returns:
            One row a judged pair.

        Raises:
            SealedError: for test (`data.view`).
        """
        self._open(judgments_of(split))
        frame = self._of_split("judgments.parquet", split)
        return Judgments(split, frame.select("query_id", "product_id", "label"))

    def _open(self, part: str) -> None:
        known = part != judgments_of("test") if self.parts is None else part in self.parts
        if known:
            return
        if part == judgments_of("test"):
            raise SealedError("the judgments of the test split are open to the evaluation alone")
        raise LookupError(f"{part} of data={self.name} is not part of this view: name it there")

    def _of_split(self, name: str, split: str) -> pl.DataFrame:
        if split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        frame = (
            pl.scan_parquet(self.folder / name, glob=False)
            .filter(pl.col("split") == split)
            .collect()
        )
        if frame.is_empty():
            raise InputError(f"data {self.name!r} has no {split} queries")
        return frame

    @property
    def behaviour(self) -> pl.DataFrame | None:
        """Sessions: session, step, query_id, product_id, event, position; or None."""
        self._open(BEHAVIOUR)
        path = self.folder / "behaviour.parquet"
        return pl.read_parquet(path, glob=False) if path.exists() else None
