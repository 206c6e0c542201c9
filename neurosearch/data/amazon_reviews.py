"""Amazon Reviews (McAuley et al.): products, and what people bought, in time order.

Two forms are read. As published: `meta*.json(l)(.gz)` (`asin`, `title`, `brand`, `category`,
`description`, `feature`, `price`, `imageURL`; the 2023 names `parent_asin`, `store`,
`categories`, `features`, `images` too) and reviews beside it, any other `*.json(l)(.gz)`
(`reviewerID` or `user_id`, `asin` or `parent_asin`, `unixReviewTime` or `timestamp`,
`reviewText` or `text`). Compact: `items.parquet` (`item_id, title, description, brand`) and
`sequences.parquet` (`user_id, item_ids` in time order).

Nobody searched here. Two sorts of queries are made, and are named for what they are:

* `queries=next_item`: what a user has bought so far asks for the next product. The text is the
  titles of the latest ones, newest first; the column `history` has all their ids, and
  `popularity` says whether the next product is of the head, torso or tail of train's purchases.
  Leave-one-out: a user's last product is the test query's, the one before it dev's, the earlier
  ones train's.
* `queries=reviews`: a review's text asks for the product that it was written of. **Synthetic and
  leaking**: a reviewer has the product before him. For pipelines, not for claims.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data import base, requirements
from neurosearch.data.reading import (
    hashed_fraction,
    id_of,
    json_lines,
    read_parquet,
    require_columns,
)

QUERIES = ("next_item", "reviews")
PUBLISHED = "Amazon Reviews' metadata"
SHORTEST = 3  # products of a user: one each for test and dev, and one that asks


@dataclass(frozen=True)
class AmazonReviews(base.Data):
    """Attributes:
    path: the folder with the files of one category.
    queries: `next_item` or `reviews`.
    shown: how many titles of a history make its text.
    longest: of a history; older products are left out.
    """

    choice: ClassVar[str] = "amazon_reviews"
    path: str = content(content_digest)
    queries: str = setting("next_item", choices=QUERIES)
    shown: int = setting(3, least=1)
    longest: int = setting(20, least=1)

    def tables(self, runtime: Runtime) -> base.Tables:
        folder = Path(self.path)
        compact = (folder / "items.parquet").exists()
        if compact and self.queries == "reviews":
            raise InputError(
                f"{folder}: the compact form has no reviews; say data.queries=next_item"
            )
        products, events = (_compact if compact else _published)(folder)
        titles = dict(products.select("product_id", "title").iter_rows())
        known = events.filter(pl.col("product_id").is_in(products["product_id"].implode()))
        if self.queries == "reviews":
            queries, judgments = _reviews(known)
        else:
            queries, judgments = self._next_item(known, titles)
        if queries.is_empty():
            raise InputError(
                f"{folder}: no query could be made of it (data.queries={self.queries})"
            )
        return base.Tables([products], queries, judgments, _behaviour(known))

    def _next_item(
        self, events: pl.DataFrame, titles: dict[str, str]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        rows, judged = [], []
        parts = _popularity(events)
        users = events.group_by("user_id", maintain_order=True).agg("product_id")
        for user, items in users.iter_rows():
            if len(items) < SHORTEST:
                continue
            for place in range(1, len(items)):
                left = len(items) - place  # 1: the last one
                split = "test" if left == 1 else "dev" if left == 2 else "train"
                history = items[max(0, place - self.longest) : place]
                query = f"{user}-{place}"
                latest = [titles[item] or "" for item in history[: -self.shown - 1 : -1]]
                part = parts.get(items[place], "tail")
                rows.append((query, " ; ".join(filter(None, latest)), split, history, part))
                judged.append((query, items[place], "bought"))
        names = ("query_id", "text", "split", "history", "popularity")
        return _frame(rows, names, "history"), _frame(judged, ("query_id", "product_id", "label"))


def _popularity(events: pl.DataFrame) -> dict[str, str]:
    """`head`, `torso` or `tail` of each product: thirds of what the train queries ask for."""
    place = pl.int_range(pl.len()).over("user_id")
    train = events.filter((place > 0) & (place < pl.len().over("user_id") - 2))
    counts = train.group_by("product_id").len().sort("len", "product_id", descending=[True, False])
    before = (pl.col("len").cum_sum() - pl.col("len")) / pl.col("len").sum()
    third = pl.when(before < 1 / 3).then(pl.lit("head")).when(before < 2 / 3).then(pl.lit("torso"))
    parts = counts.select("product_id", third.otherwise(pl.lit("tail")))
    return dict(parts.iter_rows())


def _reviews(events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first review of each product in each split, so that a query has one answer."""
    said = events.filter(pl.col("text").str.len_chars() > 0).with_row_index("number")
    share = pl.col("user_id").map_elements(hashed_fraction, pl.Float64)
    split = pl.when(share < 0.2).then(pl.lit("test")).when(share < 0.3).then(pl.lit("dev"))
    queries = said.with_columns(
        split=split.otherwise(pl.lit("train")),
        query_id=pl.concat_str(pl.lit("R"), pl.col("number").cast(pl.String)),
    ).unique(["product_id", "split"], keep="first", maintain_order=True)
    judgments = queries.select("query_id", "product_id", label=pl.lit("bought"))
    return queries.select("query_id", "text", "split"), judgments


def _behaviour(events: pl.DataFrame) -> pl.DataFrame:
    return events.select(
        session=pl.col("user_id").rank("dense").cast(pl.Int64) - 1,
        step=pl.int_range(pl.len(), dtype=pl.Int64).over("user_id"),
        query_id=pl.lit(None, pl.String),
        product_id="product_id",
        event=pl.lit("purchase"),
        position=pl.lit(None, pl.Int64),
    )


def _compact(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    items, sequences = (
        folder / "items.parquet",
        requirements.require_file(folder / "sequences.parquet", "user_id and item_ids"),
    )
    products, users = (read_parquet(file) for file in (items, sequences))
    require_columns(items, products.columns, ("item_id", "title"))
    require_columns(sequences, users.columns, ("user_id", "item_ids"))
    if not isinstance(users.schema["item_ids"], pl.List):
        kind = users.schema["item_ids"]
        raise InputError(f"{sequences}: column 'item_ids' holds {kind}, not lists")
    numbered = users.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64) + 1)
    requirements.require_present(sequences, numbered, "user_id", "item_ids")
    products = products.rename({"item_id": "product_id"}).with_row_index("row")
    products = products.with_columns(
        pl.col("row").cast(pl.Int64) + 1, pl.col("product_id").cast(pl.String)
    )
    requirements.require_unique(items, products, "product_id")
    texts = [name for name in ("title", "description", "brand") if name in products.columns]
    products = products.select("product_id", *(base.clean_text(name) for name in texts))
    # The compact form keeps published lists as they were printed: ['one', 'two'].
    printed = r"^\[['\"]?|['\"]?\]$", r"['\"],\s*['\"]"
    lists = [
        pl.col(n).str.replace_all(printed[0], "").str.replace_all(printed[1], " ").str.strip_chars()
        for n in texts
    ]
    events = (
        users.with_row_index("row")
        .explode("item_ids")
        .select(
            pl.col("row").cast(pl.Int64) + 1,
            pl.col("user_id").cast(pl.String),
            pl.col("item_ids").cast(pl.String).alias("product_id"),
            pl.lit("").alias("text"),
        )
    )
    requirements.require_known(sequences, events, "product_id", products["product_id"], items.name)
    return products.with_columns(lists), events.drop("row")


def _published(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    files = sorted(f for f in folder.glob("*") if ".json" in f.name)
    metas = [f for f in files if f.name.startswith("meta")]
    reviews = [f for f in files if not f.name.startswith("meta")]
    if not metas or not reviews:
        raise InputError(f"{folder}: no meta*.json(l)(.gz) with reviews beside it ({PUBLISHED})")
    products = _frame(
        [_product(file, row, line) for file in metas for row, line in json_lines(file)],
        ("product_id", "title", "brand", "bullets", "description", "category", "attributes"),
    ).unique("product_id", keep="first", maintain_order=True)
    events = [_event(file, row, line) for file in reviews for row, line in json_lines(file)]
    frame = pl.DataFrame(events, ("user_id", "product_id", "text", "time"), orient="row")
    frame = frame.sort("time", maintain_order=True).drop("time")
    texts = ("title", "brand", "bullets", "description")
    return products.with_columns(base.clean_text(name) for name in texts), frame


def _product(file: Path, row: int, line: dict[str, Any]) -> tuple[str | None, ...]:
    images = line.get("imageURL") or line.get("imageURLHighRes") or line.get("images") or []
    facts = {"price": line.get("price"), "images": images}
    return (
        id_of(file, row, line, "parent_asin", "asin"),
        _text(line.get("title")),
        _text(line.get("brand") or line.get("store")),
        _text(line.get("feature") or line.get("features"), " | "),
        _text(line.get("description")),
        _text(line.get("category") or line.get("categories"), " > "),
        json.dumps({key: value for key, value in facts.items() if value}),
    )


def _event(file: Path, row: int, line: dict[str, Any]) -> tuple[str, str, str, int]:
    time = id_of(file, row, line, "timestamp", "unixReviewTime")
    try:
        when = int(time)
        if abs(when) >= 2**63:
            raise ValueError
    except ValueError:
        raise InputError(f"{file} row {row}: {time!r} is no time (an integer)") from None
    user = id_of(file, row, line, "user_id", "reviewerID")
    product = id_of(file, row, line, "parent_asin", "asin")
    return user, product, _text(line.get("reviewText") or line.get("text")) or "", when


def _text(value: Any, separator: str = " ") -> str | None:
    if isinstance(value, list):
        return separator.join(str(part) for part in value if part) or None
    return None if value in (None, "") else str(value)


def _frame(rows: list[Any], names: tuple[str, ...], listed: str = "") -> pl.DataFrame:
    schema: Any = {name: pl.List(pl.String) if name == listed else pl.String for name in names}
    return pl.DataFrame(rows, schema, orient="row")
