"""Postings: for each term the products that have it, gone through term at a time.

A query's terms are gone through one after another, and each adds its weight times the products'
weights to their scores; the result is the exact inner product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Postings:
    """Of term t the products rows[offsets[t]:offsets[t + 1]], with their weights.

    Attributes:
        offsets: V+1 int64.
        rows: P int32, ascending within a term.
        weights: P float32, or P uint8 to be multiplied by `scale`.
        products: how many there are.
    """

    offsets: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    products: int
    scale: float = 1.0


def postings_of(weights: Any) -> Postings:
    """The postings of an N×V CSR matrix of weights."""
    columns = weights.tocsc()
    columns.sort_indices()
    offsets = columns.indptr.astype(np.int64)
    return Postings(offsets, columns.indices.astype(np.int32), columns.data, weights.shape[0])


def nearest(known: Postings, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The products of the largest inner products, among those that have a term of the query.

    Args:
        known: of the products.
        queries: Q×V CSR matrix of weights.
        k: results of each query.

    Returns:
        Q×k rows (int64, -1 padded) and scores (float32), best first, equal scores by row; and Q
        counts of postings that were read.
    """
    count = queries.shape[0]
    rows = np.full((count, k), -1, dtype=np.int64)
    scores = np.zeros((count, k), dtype=np.float32)
    read = np.zeros(count, dtype=np.int64)
    for number in range(count):
        begin, end = queries.indptr[number], queries.indptr[number + 1]
        totals = np.zeros(known.products, dtype=np.float32)
        for term, weight in zip(queries.indices[begin:end], queries.data[begin:end], strict=True):
            of_term = slice(known.offsets[term], known.offsets[term + 1])
            # No product is twice in a term's list, so nothing is lost by this addition.
            totals[known.rows[of_term]] += weight * known.weights[of_term]
            read[number] += of_term.stop - of_term.start
        best = _best(totals, k)
        rows[number, : len(best)] = best
        scores[number, : len(best)] = totals[best] * np.float32(known.scale)
    return rows, scores, read


def _best(totals: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k largest totals above 0, best first, equal ones by row."""
    found = np.flatnonzero(totals > 0)
    if len(found) > k:
        least = np.partition(totals[found], len(found) - k)[len(found) - k]
        found = found[totals[found] >= least]
    order: np.ndarray = found[np.lexsort((found, -totals[found]))][:k]
    return order
