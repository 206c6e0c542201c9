"""What a data set looks like: label balance, lengths, judged products, the vocabulary gap."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.types import SPLITS, Dataset


def profile(data: Dataset) -> dict[str, Any]:
    """`splits`: for each split that has queries

    * `queries`, `judgments`: how many;
    * `labels`: judgments by label;
    * `query_words`, `judged`: counts of queries by their words, by their judged products;
    * `gap`: share of query words that no judged product's title has (before any stemming);

    and `products`, `title_words`, `fields` (share of products where a field is filled).
    """
    catalogue = data.catalogue
    titles = pl.Series(catalogue.all_texts(("title",)))
    splits = {}
    for split in SPLITS:
        try:
            splits[split] = _split(data, split, titles)
        except InputError:  # the split has no queries
            continue
    return {
        "products": len(titles),
        "title_words": _histogram(_words(titles).list.len().to_numpy()),
        "fields": _filled(data),
        "splits": splits,
    }


def _split(data: Dataset, split: str, titles: pl.Series) -> dict[str, Any]:
    queries, judged = data.queries(split).frame, data.judgments(split).frame
    per_query = queries.select("query_id").join(
        judged.group_by("query_id").len(), on="query_id", how="left"
    )
    labels = judged["label"].value_counts(sort=True)
    return {
        "queries": queries.height,
        "judgments": judged.height,
        "labels": dict(labels.sort("label").iter_rows()),
        "query_words": _histogram(_words(queries["text"]).list.len().to_numpy()),
        "judged": _histogram(per_query["len"].fill_null(0).to_numpy()),
        "gap": _gap(data, queries, judged, titles),
    }


def _gap(data: Dataset, queries: pl.DataFrame, judged: pl.DataFrame, titles: pl.Series) -> float:
    products = pl.DataFrame({"product_id": data.catalogue.ids, "shown": _words(titles)})
    shown = (
        judged.join(products, on="product_id")
        .explode("shown")
        .select("query_id", word="shown")
        .unique()
    )
    query_words = (
        queries.select("query_id", word=_words(queries["text"])).explode("word").drop_nulls()
    )
    if query_words.is_empty():
        return 0.0
    missed = query_words.join(shown, on=["query_id", "word"], how="anti")
    return missed.height / query_words.height


def _words(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase().str.extract_all(r"\w+")


def _histogram(values: np.ndarray) -> dict[int, int]:
    counts = np.bincount(np.asarray(values, dtype=np.int64))
    return {number: int(count) for number, count in enumerate(counts) if count}


def _filled(data: Dataset) -> dict[str, float]:
    from neurosearch.core.types import TEXT_FIELDS

    totals = dict.fromkeys(TEXT_FIELDS, 0)
    for batch in data.catalogue.batches(TEXT_FIELDS):
        for name in TEXT_FIELDS:
            totals[name] += int((batch[name].str.len_chars().fill_null(0) > 0).sum())
    return {name: total / len(data.catalogue) for name, total in totals.items()}
