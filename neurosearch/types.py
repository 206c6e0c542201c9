"""What flows between roles: catalogues, queries, judgments, data sets, vectors, runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from neurosearch.errors import InputError, SealedError

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
    """Raise InputError naming the config key where `fields` are not texts of a product."""
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
        return pl.read_parquet(self.path, columns=["product_id"])["product_id"]

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
        """Frames of at most `size` rows of these columns, in row order, in bounded memory."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=size, columns=list(columns)):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame.select(columns)

    def texts(self, fields: Sequence[str], separator: str = " ") -> Iterator[list[str]]:
        """Batches of one text a product: its non-empty `fields` joined by `separator`."""
        for frame in self.batches(fields):
            joined = frame.select(joined_text(fields, separator).alias("text"))
            yield joined["text"].to_list()

    def all_texts(self, fields: Sequence[str], separator: str = " ") -> list[str]:
        """One text a product, by row (`texts`)."""
        return [text for batch in self.texts(fields, separator) for text in batch]


def joined_text(fields: Sequence[str], separator: str) -> pl.Expr:
    """Expression: the non-empty fields joined; '' where all are empty."""
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
        """The queries with other texts."""
        texts = pl.Series("text", process(self.texts), pl.String)
        return Queries(self.split, self.frame.with_columns(texts))


@dataclass(frozen=True)
class Judgments:
    """Labels as published, for one split: `query_id`, `product_id`, `label` (String)."""

    split: str
    frame: pl.DataFrame


# Parts of a data set, which change apart from one another.
PRODUCTS, BEHAVIOUR = "products", "behaviour"


def queries_of(split: str) -> str:
    """The part that is a split's queries."""
    return f"queries/{split}"


def pool_of(split: str) -> str:
    """The part that says which products were judged for a split's queries, without labels."""
    return f"pool/{split}"


def judgments_of(split: str) -> str:
    """The part that is a split's judgments."""
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
        """Queries of a split. Raises InputError for an unknown or an empty split."""
        self._open(queries_of(split))
        return Queries(split, self._of_split("queries.parquet", split))

    def has(self, split: str) -> bool:
        """Whether a split has queries."""
        self._open(queries_of(split))
        splits = pl.scan_parquet(self.folder / "queries.parquet").select("split").unique()
        return split in splits.collect()["split"].to_list()

    def pool(self, split: str) -> pl.DataFrame:
        """`query_id`, `product_id` of what was judged for a split's queries, without labels."""
        self._open(pool_of(split))
        return self._of_split("judgments.parquet", split).select("query_id", "product_id")

    def judgments(self, split: str) -> Judgments:
        """Judgments of a split's queries. Raises SealedError for test (`data.view`)."""
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
        frame = pl.scan_parquet(self.folder / name).filter(pl.col("split") == split).collect()
        if frame.is_empty():
            raise InputError(f"data {self.name!r} has no {split} queries")
        return frame

    @property
    def behaviour(self) -> pl.DataFrame | None:
        """Sessions: session, step, query_id, product_id, event, position; or None."""
        self._open(BEHAVIOUR)
        path = self.folder / "behaviour.parquet"
        return pl.read_parquet(path) if path.exists() else None


@dataclass(frozen=True)
class Embeddings:
    """N×D float32 vectors of texts, memory-mapped, with the encoder that made them."""

    vectors: np.ndarray
    encoder: str  # fingerprint: an index refuses vectors of another encoder

    @classmethod
    def load(cls, folder: Path) -> Embeddings:
        meta = json.loads((folder / "embeddings.json").read_text(encoding="utf-8"))
        return cls(np.load(folder / "vectors.npy", mmap_mode="r"), meta["encoder"])


@dataclass(frozen=True)
class TokenEmbeddings:
    """S×D float16 unit vectors of tokens, memory-mapped: text i has those from offsets[i] on."""

    vectors: np.ndarray
    offsets: np.ndarray  # N+1
    encoder: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, text: int) -> np.ndarray:
        """L×D float32 token vectors of a text."""
        begin, end = self.offsets[text], self.offsets[text + 1]
        return np.asarray(self.vectors[begin:end], dtype=np.float32)

    @classmethod
    def load(cls, folder: Path) -> TokenEmbeddings:
        meta = json.loads((folder / "embeddings.json").read_text(encoding="utf-8"))
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        return cls(vectors, np.load(folder / "offsets.npy"), meta["encoder"])


@dataclass(frozen=True)
class SemanticIds:
    """N×L codes (int32) of a catalogue's products.

    `sizes`: how many codes each level has. The first `semantic` levels are the tokenizer's; a
    further one only tells products apart that share them.
    """

    codes: np.ndarray
    sizes: tuple[int, ...]
    semantic: int

    def __len__(self) -> int:
        return len(self.codes)

    def keys(self, levels: int | None = None) -> np.ndarray:
        """N int64 numbers of the distinct prefixes of `levels` codes, in the order of codes."""
        count = self.codes.shape[1] if levels is None else levels
        keys = np.zeros(len(self.codes), dtype=np.int64)
        for level in range(count):
            # Unseen products may have codes past the catalogue's.
            base = max(self.sizes[level], int(self.codes[:, level].max(initial=0)) + 1)
            joined = keys * base + self.codes[:, level]
            keys = np.unique(joined, return_inverse=True)[1].astype(np.int64)
        return keys

    def save(self, folder: Path) -> None:
        np.save(folder / "codes.npy", self.codes.astype(np.int32))
        meta = {"sizes": list(self.sizes), "semantic": self.semantic}
        (folder / "ids.json").write_text(json.dumps(meta), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SemanticIds:
        meta = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        codes = np.load(folder / "codes.npy", mmap_mode="r")
        return cls(codes, tuple(meta["sizes"]), meta["semantic"])


TAG = "neurosearch"  # of the run files that this package writes


def _without_blanks(column: str) -> pl.Expr:
    """An id column with what TREC files can't hold percent-encoded."""
    special = pl.col(column).str.contains(r"[%\s\x00-\x1f\x7f]")
    encoded = pl.col(column).map_elements(_encoded, pl.String)
    return pl.when(special).then(encoded).otherwise(pl.col(column)).alias(column)


def _encoded(text: str) -> str:
    return "".join(
        quote(c, safe="") if c == "%" or c.isspace() or ord(c) < 32 or ord(c) == 127 else c
        for c in text
    )


@dataclass(frozen=True)
class Run:
    """Ranked lists of one split's queries, best first.

    `frame` has `query_id`, `product_id`, `score` (Float64) and `rank` (from 1), sorted by
    query in the split's order, then by rank. Scores are float32 numbers, as trec_eval reads them,
    and ties are broken as it breaks them: by descending product id. `floor` is the least score that
    the system can give (a product that it did not retrieve scores at least that), or None.
    """

    split: str
    frame: pl.DataFrame
    floor: float | None = None
    query_ids: tuple[str, ...] = field(default=(), repr=False)  # all queries, empty lists too

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        queries: Queries,
        depth: int | None = None,
        floor: float | None = None,
    ) -> Run:
        """Rank (query_id, product_id, score) rows; keep `depth` a query.

        Raises ValueError for a score that is no finite float32.
        """
        order = queries.frame.select("query_id").with_row_index("_order")
        score = pl.col("score").cast(pl.Float32).cast(pl.Float64)
        frame = frame.select("query_id", "product_id", score)
        wrong = frame.filter(~pl.col("score").is_finite().fill_null(False))
        if wrong.height:
            what = f"{wrong[0, 'score']} of {wrong[0, 'product_id']!r}"
            raise ValueError(f"query {wrong[0, 'query_id']!r}: the score {what} is no number")
        ranked = (
            frame.join(order, on="query_id", how="inner")
            .sort("_order", "score", "product_id", descending=[False, True, True])
            .with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("_order"))
        )
        if depth is not None:
            ranked = ranked.filter(pl.col("rank") <= depth)
        return cls(queries.split, ranked.drop("_order"), floor, tuple(queries.ids.to_list()))

    @classmethod
    def from_arrays(
        cls,
        rows: np.ndarray,
        scores: np.ndarray,
        queries: Queries,
        catalogue: Catalogue,
        depth: int | None = None,
        floor: float | None = None,
    ) -> Run:
        """Rank Q×k product rows and scores; rows of -1 are padding."""
        keep = rows.ravel() >= 0
        query = np.repeat(np.arange(len(queries)), rows.shape[1])[keep]
        frame = pl.DataFrame(
            {
                "query_id": queries.ids.gather(query),
                "product_id": catalogue.ids.gather(rows.ravel()[keep]),
                "score": scores.ravel()[keep].astype(np.float64),
            }
        )
        return cls.from_frame(frame, queries, depth, floor)

    def save(self, path: Path) -> None:
        """Parquet: the frame, with split, floor and query ids in the file's metadata."""
        import pyarrow.parquet as pq

        table = self.frame.to_arrow()
        meta = {"split": self.split, "floor": self.floor, "query_ids": list(self.query_ids)}
        table = table.replace_schema_metadata({"neurosearch": json.dumps(meta)})
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what `save` wrote."""
        import pyarrow.parquet as pq

        stored = (pq.read_schema(path).metadata or {}).get(b"neurosearch")
        if stored is None:
            raise InputError(f"{path}: no run of neurosearch (its metadata is missing)")
        meta = json.loads(stored)
        frame = pl.read_parquet(path)
        return cls(meta["split"], frame, meta["floor"], tuple(meta["query_ids"]))

    def save_trec(self, path: Path, tag: str = TAG) -> None:
        """TREC run file: `qid Q0 docid rank score tag`, space-separated.

        The format splits at white space, so blanks, control characters and `%` of ids are
        percent-encoded; `load_trec` decodes them where the tag is ours.
        """
        # Python writes the shortest digits that read back as the same float32.
        scores = [str(np.float32(score)) for score in self.frame["score"].to_list()]
        self.frame.select(
            _without_blanks("query_id"),
            pl.lit("Q0"),
            _without_blanks("product_id"),
            "rank",
            pl.Series("score", scores, pl.String),
            pl.lit(tag).alias("tag"),
        ).write_csv(path, separator=" ", include_header=False, quote_style="never")

    @classmethod
    def load_trec(cls, path: Path, queries: Queries, floor: float | None = None) -> Run:
        """Read a TREC run of a split's queries; ranks are recomputed from the scores.

        Raises InputError naming the row for a line that is not six columns with a number in
        the fifth, or whose query the split does not have.
        """
        known = set(queries.ids.to_list())
        rows: list[tuple[str, str, float]] = []
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                parts = re.split(r"[ \t]+", line.strip(" \t\r\n"))
                if len(parts) != 6:
                    raise InputError(f"{path} row {number}: {len(parts)} columns, not six")
                if parts[5] == TAG:
                    parts[0], parts[2] = unquote(parts[0]), unquote(parts[2])
                try:
                    rows.append((parts[0], parts[2], float(np.float32(parts[4]))))
                    if not math.isfinite(rows[-1][2]):
                        raise ValueError
                except ValueError:
                    message = f"{path} row {number}, column 5: {parts[4]!r} is no score"
                    raise InputError(message) from None
                if parts[0] not in known:
                    message = f"{path} row {number}: the {queries.split} split has no query"
                    raise InputError(f"{message} {parts[0]!r}")
        schema = {"query_id": pl.String, "product_id": pl.String, "score": pl.Float64}
        return cls.from_frame(pl.DataFrame(rows, schema, orient="row"), queries, floor=floor)
