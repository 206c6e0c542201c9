"""Runs: ranked lists of one split's queries, as parquet and as TREC files."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.types import Catalogue, Queries, places_of

TAG = "neurosearch"  # of the run files that this package writes


def without_blanks(column: str) -> pl.Expr:
    """An id column with what TREC files can't hold percent-encoded.

    Args:
        column: of String ids.

    Returns:
        An expression of the same name.
    """
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

        Args:
            frame: `query_id`, `product_id`, `score`; rows of other queries are dropped.
            queries: whose order the run follows.
            depth: results of a query that are kept; None for all.
            floor: see `Run`.

        Returns:
            The run; equal scores are ordered by descending product id.

        Raises:
            ValueError: for a score that is no finite float32.
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
        """Rank products.

        Args:
            rows: Q×k rows of the catalogue; -1 is padding.
            scores: Q×k, finite where there is a row.
            queries: Q queries, one a row of `rows`.
            catalogue: whose rows are named.
            depth: results of a query that are kept; None for all.
            floor: see `Run`.

        Returns:
            The run; equal scores are ordered by descending product id.

        Raises:
            InputError: another number of queries, or a row that the catalogue does not have.
        """
        if rows.shape[0] != len(queries) or scores.shape != rows.shape:
            shapes = f"rows {rows.shape} and scores {scores.shape}"
            raise InputError(f"a run of {len(queries)} queries was given {shapes}")
        strange = rows[(rows < -1) | (rows >= len(catalogue.ids))]
        if len(strange):
            raise InputError(f"a run names row {strange[0]} of {len(catalogue.ids)} products")
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
        """Parquet: the frame, with split, floor and query ids in the file's metadata.

        Args:
            path: of the file.
        """
        import pyarrow.parquet as pq

        table = self.frame.to_arrow()
        meta = {"split": self.split, "floor": self.floor, "query_ids": list(self.query_ids)}
        table = table.replace_schema_metadata({"neurosearch": json.dumps(meta)})
        pq.write_table(table, path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what `save` wrote.

        Args:
            path: of the file.

        Returns:
            The run.

        Raises:
            InputError: the file is no run of ours.
        """
        import pyarrow.parquet as pq

        stored = (pq.read_schema(path).metadata or {}).get(b"neurosearch")
        if stored is None:
            raise InputError(f"{path}: no run of neurosearch (its metadata is missing)")
        meta = json.loads(stored)
        frame = pl.read_parquet(path, glob=False)
        return cls(meta["split"], frame, meta["floor"], tuple(meta["query_ids"]))

    def save_trec(self, path: Path, tag: str = TAG) -> None:
        """TREC run file: `qid Q0 docid rank score tag`, space-separated.

        The format splits at white space, so blanks, control characters and `%` of ids are
        percent-encoded; `load_trec` decodes them where the tag is ours.

        Args:
            path: of the file.
            tag: the last column.
        """
        # Python writes the shortest digits that read back as the same float32.
        scores = [str(np.float32(score)) for score in self.frame["score"].to_list()]
        self.frame.select(
            without_blanks("query_id"),
            pl.lit("Q0"),
            without_blanks("product_id"),
            "rank",
            pl.Series("score", scores, pl.String),
            pl.lit(tag).alias("tag"),
        ).write_csv(path, separator=" ", include_header=False, quote_style="never")

    @classmethod
    def load_trec(cls, path: Path, queries: Queries, floor: float | None = None) -> Run:
        """Read a TREC run of a split's queries; ranks are recomputed from the scores.

        Args:
            path: of the file.
            queries: of the split that the run answers.
            floor: see `Run`.

        Returns:
            The run.

        Raises:
            InputError: naming the row for a line that is not six columns with a number in the
                fifth, or whose query the split does not have.
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


def numbered_pairs(run: Run, query_ids: pl.Series, product_ids: pl.Series) -> pl.DataFrame:
    """The run's frame with `query` and `row` numbers, in its order.

    Args:
        run: the lists.
        query_ids: whose places are `query`.
        product_ids: whose places are `row`.

    Returns:
        The frame with two Int64 columns more.
    """
    queries = places_of(query_ids, "query_id", "query")
    products = places_of(product_ids, "product_id", "row")
    joined = run.frame.join(queries, on="query_id", maintain_order="left")
    joined = joined.join(products, on="product_id", maintain_order="left")
    return joined.with_columns(pl.col("query", "row").cast(pl.Int64))
