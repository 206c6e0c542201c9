"""Pictures with attributes: a parquet file of them, or a folder of image files.

A parquet file has one row a product: an id, an image (the encoded bytes, or the name of a file
beside it), perhaps a title, and attributes. In a folder without one, every image file is a
product, its title the file's name and its type the name of the folder that it lies in.

Nobody asked for these products, so the queries are **made from attributes**: a share of the
products is held out of the catalogue, and each gives one query in words ("black shirts"), with
its picture as the same wish without words. A label is how many of the query's attributes a
product has, and says so: `all`, `some` (the type and another), `type` or, for any other product,
none. All products of the type are judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data import base, requirements
from neurosearch.data.reading import check_picture, hashed_fraction, read_parquet, require_columns

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# Which attributes a query names beside the type, by kind.
KINDS = {"type": (), "colour": ("colour",), "usage": ("usage",), "both": ("usage", "colour")}
COLUMNS = ("product_id", "image", "type")


@dataclass(frozen=True)
class Pictures(base.Data):
    """Attributes:
    path: the parquet file, or a folder with one or with image files.
    columns: of the file, by what they are: `product_id`, `image`, `type` are needed; `title`,
        `colour`, `usage`, `department`, `category` may be there.
    held_out: share of the products that queries are made from.
    """

    choice: ClassVar[str] = "pictures"
    path: str = content(content_digest)
    columns: dict[str, str] = field(default_factory=lambda: {name: name for name in COLUMNS})
    held_out: float = setting(0.15, above=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [name for name in COLUMNS if name not in self.columns]
        if missing:
            raise InputError(f"data.columns does not say which column is {', '.join(missing)}")

    def tables(self, runtime: Runtime) -> base.Tables:
        path = Path(self.path)
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if len(files) > 1:
            raise InputError(f"{path}: several parquet files; say which one in data.path")
        products = self._table(files[0]) if files else _folder(path)
        is_source = pl.col("product_id").map_elements(
            lambda text: hashed_fraction(text, "asked"), pl.Float64
        )
        held = products.filter(is_source < self.held_out)
        kept = products.filter(is_source >= self.held_out)
        queries = self._queries(held)
        if queries.is_empty():
            raise InputError(f"{path}: no product was drawn to make a query of (data.held_out)")
        return base.Tables([_canonical(kept)], queries.drop("type"), _judgments(queries, kept))

    def _table(self, file: Path) -> pl.DataFrame:
        requirements.require_file(file, "a parquet file of products and their pictures")
        frame = read_parquet(file)
        require_columns(file, frame.columns, tuple(self.columns.values()))
        named = {theirs: ours for ours, theirs in self.columns.items()}
        # What else is called as it is here need not be told.
        known = ("title", "colour", "usage", "department", "category")
        named |= {c: c for c in known if c in frame.columns and c not in self.columns}
        frame = frame.select(list(named)).rename(named).with_row_index("row")
        texts = [name for name in frame.columns if name not in ("image", "row")]
        frame = frame.with_columns(pl.col("row").cast(pl.Int64) + 1, pl.col(texts).cast(pl.String))
        requirements.require_present(file, frame, "product_id", "type")
        requirements.require_unique(file, frame, "product_id")
        kind = frame.schema["image"]
        if isinstance(kind, pl.Struct) and any(f.name == "bytes" for f in kind.fields):
            frame = frame.with_columns(pl.col("image").struct.field("bytes"))
        elif kind not in (pl.String, pl.Binary):
            raise InputError(f"{file}: column 'image' holds {kind}, not bytes or names of files")
        if frame.schema["image"] == pl.String:
            frame = frame.with_columns(
                pl.Series("image", [_read(file, *x) for x in frame.select("row", "image").rows()])
            )
        _check_pictures(file, frame)
        return frame

    def _queries(self, held: pl.DataFrame) -> pl.DataFrame:
        """One query a held-out product, the first of each wording."""
        there = [name for name in ("colour", "usage") if name in held.columns]
        known = held.with_columns(
            (pl.col(n) if n in there else pl.lit(None, pl.String)).alias(n)
            for n in ("colour", "usage")
        )
        kinds = [kind for kind, names in KINDS.items() if set(names) <= set(there)]
        number = pl.col("product_id").map_elements(
            lambda text: int(hashed_fraction(text, "kind") * len(kinds)), pl.Int64
        )
        kind = number.replace_strict(dict(enumerate(kinds)), return_dtype=pl.String)
        wording = pl.concat_str(
            pl.when(kind.is_in(["usage", "both"])).then(pl.col("usage")),
            pl.when(kind.is_in(["colour", "both"])).then(pl.col("colour")),
            pl.col("type"),
            separator=" ",
            ignore_nulls=True,
        ).str.to_lowercase()
        share = pl.col("product_id").map_elements(
            lambda text: hashed_fraction(text, "split"), pl.Float64
        )
        split = pl.when(share < 0.4).then(pl.lit("test")).when(share < 0.6).then(pl.lit("dev"))
        return known.select(
            pl.concat_str(pl.lit("Q"), "product_id").alias("query_id"),
            wording.alias("text"),
            split.otherwise(pl.lit("train")).alias("split"),
            kind.alias("kind"),
            "image",
            "type",
            pl.when(kind.is_in(["colour", "both"])).then(pl.col("colour")).alias("colour"),
            pl.when(kind.is_in(["usage", "both"])).then(pl.col("usage")).alias("usage"),
        ).unique("text", keep="first", maintain_order=True)


def _judgments(queries: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Every product of a query's type, by how many of its other attributes it has."""
    lacking = [name for name in ("colour", "usage") if name not in products.columns]
    known = products.with_columns(pl.lit(None, pl.String).alias(name) for name in lacking)
    pairs = queries.select("query_id", "type", "colour", "usage").join(
        known.select("product_id", "type", "colour", "usage"), on="type", suffix="_of"
    )
    wanted = pl.sum_horizontal(pl.col(n).is_not_null() for n in ("colour", "usage"))
    met = pl.sum_horizontal(
        (pl.col(n) == pl.col(f"{n}_of")).fill_null(False) for n in ("colour", "usage")
    )
    label = pl.when(met == wanted).then(pl.lit("all")).when(met > 0).then(pl.lit("some"))
    return pairs.select("query_id", "product_id", label=label.otherwise(pl.lit("type")))


def _canonical(products: pl.DataFrame) -> pl.DataFrame:
    path = [name for name in ("department", "category", "type") if name in products.columns]
    texts = [name for name in ("title", "colour") if name in products.columns]
    said = [name for name in ("type", "colour", "usage") if name in products.columns]
    return products.select(
        "product_id",
        *texts,
        "image",
        pl.concat_str(path, separator=" > ", ignore_nulls=True).alias("category"),
        pl.struct(said).struct.json_encode().alias("attributes"),
    )


def _folder(folder: Path) -> pl.DataFrame:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such file or folder")
    files = [f for f in sorted(folder.rglob("*")) if f.suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(f"{folder}: neither a parquet file nor images ({', '.join(SUFFIXES)})")
    frame = pl.DataFrame(
        {
            "product_id": [f.relative_to(folder).with_suffix("").as_posix() for f in files],
            "title": [f.stem.replace("_", " ").replace("-", " ") for f in files],
            "type": [f.parent.name.replace("_", " ").replace("-", " ") for f in files],
            "image": [f.read_bytes() for f in files],
        }
    ).with_row_index("row")
    frame = frame.with_columns(pl.col("row").cast(pl.Int64) + 1)
    requirements.require_unique(folder, frame, "product_id")
    _check_pictures(folder, frame)
    return frame


def _read(file: Path, row: int, name: str | None) -> bytes | None:
    if not name:
        return None
    path = file.parent / name
    if not path.is_file():
        raise InputError(f"{file} row {row}, column 'image': {path}: no such file")
    return path.read_bytes()


def _check_pictures(file: Path, frame: pl.DataFrame) -> None:
    """Raise InputError naming the first row whose picture can't be read; none is allowed."""
    for row, data in _rows(frame):
        check_picture(f"{file} row {row}, column 'image'", data)


def _rows(frame: pl.DataFrame) -> Iterator[tuple[int, bytes]]:
    yield from frame.select("row", "image").drop_nulls().iter_rows()
