"""Histories: the products that people had seen or bought before a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.types import Catalogue, places_of

if TYPE_CHECKING:
    pass


def history_rows(frame: pl.DataFrame, catalogue: Catalogue, longest: int = 20) -> np.ndarray:
    """Q×T product rows of the queries' histories, oldest first, filled up with -1 in front.

    Raises InputError where the queries have none.
    """
    if "history" not in frame.columns:
        raise InputError("the queries have no history of products (data=amazon_reviews has)")
    ids = places_of(catalogue.ids, "history", "row")
    flat = frame.select("history").with_row_index("query")
    flat = flat.explode("history")
    joined = flat.join(ids, on="history", how="inner", maintain_order="left")
    query, row = joined["query"].to_numpy(), joined["row"].to_numpy().astype(np.int64)
    count = np.bincount(query, minlength=frame.height)
    # The place of each product, counted from its history's end.
    back = np.cumsum(count)[query] - np.arange(len(query)) - 1
    kept = back < longest
    width = int(min(longest, max(1, count.max(initial=1))))
    result = np.full((frame.height, width), -1, dtype=np.int64)
    result[query[kept], width - 1 - back[kept]] = row[kept]
    return result
