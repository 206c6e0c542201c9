"""The data role: loaders fill one canonical shape, checked before anything stands on it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.artifact import NO_IDENTITY
from neurosearch.core.bounds import bounds
from neurosearch.core.digests import file_digest
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe, look_again
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import (
    BEHAVIOUR,
    PRODUCT_SCHEMA,
    PRODUCTS,
    SPLITS,
    Dataset,
    judgments_of,
    pool_of,
    queries_of,
)
from neurosearch.core.view import DataSource
from neurosearch.data.checks import check_ids, check_judgments, check_lengths, checked_queries
from neurosearch.data.sampling import first_by_hash, hashed
from neurosearch.data.splitting import check_splits, resplit

PARTS = "parts.json"
ROW_GROUP = 50_000


@dataclass(frozen=True)
class Tables:
    """What a loader returns.

    Attributes:
        products: frames of the canonical columns, streamed; missing columns become null.
        queries: `query_id`, `text`, `split`, and any slice columns.
        judgments: `query_id`, `product_id`, `label` (String).
        behaviour: sessions (see `Dataset.behaviour`), or None.
    """

    products: Iterable[pl.DataFrame]
    queries: pl.DataFrame
    judgments: pl.DataFrame
    behaviour: pl.DataFrame | None = None


@dataclass(frozen=True)
class Data(Recipe):
    """Base of the loaders. A subclass reads its files in `tables`.

    Attributes:
        share: of the products that are kept, by a hash of their ids, so smaller catalogues lie
            within larger ones; queries go with the last product that was judged for them.
        most_products: at most so many are kept, of those that are judged; for trying things out.
        most_queries: at most so many are kept.
        train_share: of the train queries that are kept; the catalogue stays as it is.
        distractors: share of the products that are kept of those that nobody judged for a kept
            query; training data and test queries stay as they are.
        splits: shares of the queries for train, dev and test, instead of the published ones
            (see `splitting`); None for the data's own.
        folds: equal parts of the queries, of which number `fold` is test, the next one dev and the
            others train; 0 for none. A sweep over `fold` tests every query once, in one row.
        name: in tables and file names; None for the folder's name. Not part of any identity.
        language: of the texts, such as `spanish`; None for the data's own, which is English unless
            a loader knows better. Nor is it part of an identity: analysers are.

    Class attributes:
        choice: the config choice, such as `home_depot`.
        simulated: made by a simulation, not by real users; tables say so.
    """

    share: float = field(default=1.0, kw_only=True, metadata=bounds(above=0, most=1))
    most_products: int | None = field(default=None, kw_only=True, metadata=bounds(least=1))
    most_queries: int | None = field(default=None, kw_only=True, metadata=bounds(least=1))
    train_share: float = field(default=1.0, kw_only=True, metadata=bounds(above=0, most=1))
    distractors: float = field(default=1.0, kw_only=True, metadata=bounds(least=0, most=1))
    splits: Mapping[str, float] | None = field(default=None, kw_only=True)
    folds: int = field(default=0, kw_only=True)
    fold: int = field(default=0, kw_only=True)
    name: str | None = field(default=None, kw_only=True, metadata={"digest": lambda _: ""})
    language: str | None = field(default=None, kw_only=True, metadata={"digest": lambda _: ""})

    choice: ClassVar[str]
    simulated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_splits(self.splits, self.folds, self.fold)
        if self.name is not None and not re.fullmatch(r"[\w.,=-]{1,60}", self.name):
            raise self.error(
                "name", f"must be 1 to 60 letters, digits or . , = -, not {self.name!r}"
            )

    def tables(self, runtime: Runtime) -> Tables:
        """Read and check the source.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Products, queries, judgments and, where there is any, behaviour.

        Raises:
            InputError: naming file, row and column.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is read")

    def dataset(self) -> DatasetArtifact:
        """The data set as an artifact.

        Returns:
            The artifact; nothing is read yet.
        """
        return DatasetArtifact(self)

    def bound(self, runtime: Runtime) -> DatasetArtifact:
        """The data set, built where it is not there, with a fingerprint for each of its parts.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            The artifact, with the digests of its parts.
        """
        artifact = self.dataset()
        folder = runtime.store.ensure(artifact)
        digests = json.loads((folder / PARTS).read_text(encoding="utf-8"))
        return dataclasses.replace(artifact, digests=digests)

    def population(self) -> Data:
        """The recipe that names what a table is about: its test queries and its catalogue.

        Returns:
            This recipe without its number of a fold, and with all train queries.
        """
        return dataclasses.replace(self, fold=0, train_share=1.0)

    def own_language(self) -> str:
        """The language of the texts where `language` says nothing.

        Returns:
            A language, such as `english`.
        """
        return "english"

    def default_splits(self, queries: pl.DataFrame) -> Mapping[str, float] | None:
        """Shares where neither `splits` nor `folds` is set; None where the source has splits.

        Args:
            queries: as the loader gives them.

        Returns:
            Shares by split, or None.
        """
        return None

    def variant(self) -> str:
        """What departs from the defaults, such as `n_products=500`; '' where nothing does.

        Returns:
            Comma-separated `field=value`, or ''.
        """
        message = []
        for spec in dataclasses.fields(self.population()):
            value = getattr(self.population(), spec.name)
            usual = spec.default
            if spec.default_factory is not dataclasses.MISSING:
                usual = spec.default_factory()
            if "digest" in spec.metadata or value == usual:  # files are named, not their places
                continue
            if isinstance(value, Mapping):
                value = "+".join(f"{key}:{item}" for key, item in value.items())
            message.append(f"{spec.name}={value}")
        return ",".join(message)

    def label(self) -> str:
        path = getattr(self, "path", None)
        return self.name or (path and Path(path).absolute().name) or self.choice


@dataclass(frozen=True)
class DatasetArtifact(DataSource):
    """products.parquet, queries.parquet, judgments.parquet, behaviour.parquet if any.

    parts.json has a digest of each part's content; `digests` are these, once they are known.
    """

    data: Data
    digests: Mapping[str, str] | None = field(default=None, metadata=NO_IDENTITY)

    def part_digest(self, part: str) -> str:
        return super().part_digest(part) if self.digests is None else self.digests.get(part, "")

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Write the tables; refuse what no experiment could stand on."""
        tables = _read(self.data, runtime)
        if self.data.share < 1:
            tables = _sampled(tables, hashed("product_id") < self.data.share)
        if self.data.most_products is not None:
            first = first_by_hash(tables.judgments, "product_id", self.data.most_products)
            tables = _sampled(tables, first)
        if self.data.most_queries is not None:
            first = first_by_hash(tables.queries, "query_id", self.data.most_queries)
            tables = _with_queries(tables, first)
        splits = self.data.splits
        if splits is None and not self.data.folds:
            splits = self.data.default_splits(tables.queries)
        if splits is not None or self.data.folds:
            dealt = splits, self.data.folds, self.data.fold
            again = resplit(tables.queries, tables.judgments, *dealt)
            tables = dataclasses.replace(tables, queries=again)
        if self.data.train_share < 1:
            tables = _with_queries(
                tables, (pl.col("split") != "train") | (hashed("query_id") < self.data.train_share)
            )
        if self.data.distractors < 1:
            tables = _with_distractors(tables, self.data.distractors)
        name = self.data.label()
        try:
            counts = {"products": _write_products(tables.products, folder, name)}
        except InputError:
            raise
        except Exception as error:
            raise _unreadable(self.data, error) from error
        queries = checked_queries(tables.queries, name)
        products = pl.read_parquet(folder / "products.parquet", columns=["product_id"], glob=False)
        check_ids(products, name, "product", "product_id")
        check_judgments(tables.judgments, queries, products["product_id"], name)
        queries.write_parquet(folder / "queries.parquet")
        split = queries.select("query_id", "split")
        judgments = tables.judgments.select("query_id", "product_id", "label")
        joined = judgments.join(split, on="query_id", how="left", maintain_order="left")
        joined.write_parquet(folder / "judgments.parquet")
        parts = {PRODUCTS: file_digest(folder / "products.parquet")}
        for name in SPLITS:
            mine = queries.filter(pl.col("split") == name)
            if mine.height:
                judged = joined.filter(pl.col("split") == name).drop("split")
                parts[queries_of(name)] = _content(mine)
                parts[judgments_of(name)] = _content(judged)
                parts[pool_of(name)] = _content(judged.drop("label"))
        if tables.behaviour is not None:
            tables.behaviour.write_parquet(folder / "behaviour.parquet")
            parts[BEHAVIOUR] = _content(tables.behaviour)
            counts["events"] = tables.behaviour.height
        look_again()
        if dataclasses.replace(self).artifact_fingerprint != self.artifact_fingerprint:
            where = f"data={self.data.choice} ({self.data.label()})"
            message = "its files changed while they were read; run it again"
            if runtime.outputs.resolve().is_relative_to(Path(getattr(self.data, "path", "/none"))):
                message = f"paths.outputs ({runtime.outputs}) lies in it: choose another folder"
            raise InputError(f"{where}: {message}")
        (folder / PARTS).write_text(json.dumps(parts, indent=1), encoding="utf-8")
        (folder / "data.json").write_text(json.dumps({"name": self.data.label()}), encoding="utf-8")
        by_split = dict(queries.group_by("split").len().iter_rows())
        counts |= {f"{name} queries": by_split.get(name, 0) for name in SPLITS}
        return {**counts, "judgments": judgments.height}

    def load(self, folder: Path) -> Dataset:
        return Dataset(folder, self.data.label())


def _content(frame: pl.DataFrame) -> str:
    """Digest of a frame's rows, in their order.

    Of Parquet's bytes, which are the values': Arrow's buffers may hold those of other rows as well.
    """
    stream = io.BytesIO()
    frame.write_parquet(stream, compression="uncompressed", statistics=False)
    return hashlib.blake2b(stream.getbuffer(), digest_size=12).hexdigest()


def _sampled(tables: Tables, kept: pl.Expr) -> Tables:
    """The tables of some of the products."""
    judgments = tables.judgments.filter(kept)
    queries = tables.queries.join(judgments, on="query_id", how="semi", maintain_order="left")
    behaviour = None if tables.behaviour is None else tables.behaviour.filter(kept)
    products = (frame.filter(kept) for frame in tables.products)
    return Tables(products, queries, judgments, behaviour)


def _with_queries(tables: Tables, kept: pl.Expr) -> Tables:
    """The tables of some of the queries; all products stay."""
    queries = tables.queries.filter(kept)
    judgments = tables.judgments.join(queries, on="query_id", how="semi", maintain_order="left")
    return dataclasses.replace(tables, queries=queries, judgments=judgments)


def _with_distractors(tables: Tables, share: float) -> Tables:
    """All products that were judged, and a share of the others, by a hash of their ids."""
    judged = pl.col("product_id").is_in(tables.judgments["product_id"].unique().implode())
    kept = judged | (hashed("product_id") < share)
    products = (frame.filter(kept) for frame in tables.products)
    behaviour = None if tables.behaviour is None else tables.behaviour.filter(kept)
    return dataclasses.replace(tables, products=products, behaviour=behaviour)


def _write_products(frames: Iterable[pl.DataFrame], folder: Path, name: str) -> int:
    import pyarrow.parquet as pq

    count = 0
    writer: pq.ParquetWriter | None = None
    try:
        for frame in frames:
            missing = [c for c in PRODUCT_SCHEMA if c not in frame.columns]
            full = frame.with_columns(pl.lit(None).alias(c) for c in missing)
            table = full.select(pl.col(c).cast(t) for c, t in PRODUCT_SCHEMA.items()).to_arrow()
            if writer is None:
                path = folder / "products.parquet"
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=ROW_GROUP)
            check_lengths(full, name)
            count += frame.height
    finally:
        if writer is not None:
            writer.close()
    if count == 0:
        raise InputError(f"data={name}: the source has no products")
    return count


def _read(data: Data, runtime: Runtime) -> Tables:
    """What the loader reads. Whatever else it raises on a strange file becomes an InputError."""
    try:
        return data.tables(runtime)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(data, error) from error


def _unreadable(data: Data, error: Exception) -> InputError:
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
    where = getattr(data, "path", data.choice)
    return InputError(f"data={data.choice}: {where} can't be read ({what})")


def clean_text(column: str) -> pl.Expr:
    """Strip tags, unescape entities, NFKC, collapse white space; null stays null.

    Args:
        column: its name.

    Returns:
        An expression of the same name.
    """
    import html

    text = pl.col(column).cast(pl.String).str.replace_all(r"<[^<>]*>", " ")
    unescaped = (
        pl.when(text.str.contains("&", literal=True))
        .then(text.map_elements(html.unescape, return_dtype=pl.String))
        .otherwise(text)
    )
    squeezed = unescaped.str.normalize("NFKC").str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(squeezed.str.len_chars() > 0).then(squeezed).alias(column)
