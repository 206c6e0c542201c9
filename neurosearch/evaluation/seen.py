"""`evaluation.seen`: recall of products that train queries had as relevant, and of the others.

A model that learnt which products are relevant, instead of what makes them so, finds the first
again and misses the others. Products that are often relevant may be easier for any system, so the
two are to be read beside those of a system that learns nothing, such as BM25.
"""

from __future__ import annotations

import polars as pl

METRICS = ("Recall@10 seen", "Recall@10 unseen")


def seen_metrics(run: pl.DataFrame, graded: pl.DataFrame, trained: pl.DataFrame) -> pl.DataFrame:
    """Recall@10 of the two kinds of relevant products, each by itself.

    Args:
        run: `query_id`, `product_id`, `rank`.
        graded: `query_id`, `product_id`, `relevant` of the judgments that count.
        trained: `product_id`, `relevant` of the train queries' judgments.

    Returns:
        `query_id` and two Float64 columns; null where a query has no such relevant product. Queries
        without any relevant product are left out.
    """
    seen = trained.filter("relevant")["product_id"].unique()
    ranks = run.select("query_id", "product_id", "rank")
    good = graded.filter("relevant").select("query_id", "product_id")
    found = good.join(ranks, on=["query_id", "product_id"], how="left")
    known = pl.col("product_id").is_in(seen.implode())
    parts = zip(METRICS, (known, ~known), strict=True)
    return found.group_by("query_id", maintain_order=True).agg(
        recall_of(those, 10).alias(name) for name, those in parts
    )


def recall_of(those: pl.Expr, depth: int) -> pl.Expr:
    """The share of a query's relevant products, those of them, that are ranked within the depth.

    Args:
        those: which rows count.
        depth: places of the list.

    Returns:
        An aggregation over rows of a query with `rank`, null for what is not in the list.
    """
    return (pl.col("rank") <= depth).fill_null(False).cast(pl.Float64).filter(those).mean()
