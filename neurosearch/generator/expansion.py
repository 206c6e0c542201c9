"""From semantic IDs to the products that have them."""

from __future__ import annotations

import numpy as np

IN_BUCKETS = 1e-4  # weight of a cosine that orders the products of an ID, and nothing else


def expand(
    scores: np.ndarray,
    leaves: np.ndarray,
    buckets: tuple[np.ndarray, np.ndarray],
    k: int,
    vectors: tuple[np.ndarray, np.ndarray] | None,
    cosine_weight: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The products of IDs, best first.

    A product's score is its ID's log-probability and, where there are `vectors`, `cosine_weight`
    times the cosine: a small one (`IN_BUCKETS`) only orders the products of an ID.

    Args:
        scores: Q×W log-probabilities; -inf is nothing.
        leaves: Q×W numbers of IDs; -1 is nothing.
        buckets: where an ID's products begin, and the products' rows.
        k: products of a query.
        vectors: Q×D of queries and N×D of products, or None.

    Returns:
        Q×k product rows (int64, -1 padded) and scores (float32).
    """
    begin, rows = buckets
    query, place = np.nonzero((leaves >= 0) & np.isfinite(scores))
    leaf = leaves[query, place]
    size = begin[leaf + 1] - begin[leaf]
    before = np.cumsum(size) - size
    first = np.searchsorted(query, np.arange(len(leaves)))  # of each query
    if len(query) and cosine_weight <= IN_BUCKETS:  # IDs after the first k products can't matter
        query_of = np.minimum(first, len(query) - 1)
        needed = before - before[query_of][query] < k
        query, place, leaf, size = (x[needed] for x in (query, place, leaf, size))
    queries = np.repeat(query, size)
    within = np.arange(len(queries)) - np.repeat(np.cumsum(size) - size, size)
    product_rows = rows[np.repeat(begin[leaf], size) + within]
    # In double precision: a ten thousandth of a cosine is lost beside a long sum in single.
    score = np.repeat(scores[query, place].astype(np.float64), size)
    if vectors is not None:
        texts, products = vectors
        for start in range(0, len(queries), 65_536):
            part = slice(start, start + 65_536)
            cosine = np.einsum("nd,nd->n", texts[queries[part]], products[product_rows[part]])
            score[part] += cosine_weight * cosine
    order = np.lexsort((-score, queries))
    queries, product_rows, score = queries[order], product_rows[order], score[order]
    rank = np.arange(len(queries)) - np.searchsorted(queries, queries)
    kept = rank < k
    result = np.full((len(leaves), k), -1, dtype=np.int64)
    marks = np.full((len(leaves), k), -np.inf)
    result[queries[kept], rank[kept]] = product_rows[kept]
    marks[queries[kept], rank[kept]] = score[kept]
    return result, marks
