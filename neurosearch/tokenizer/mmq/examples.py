"""Training examples of MMQ's second stage: a query or a history, and the product it led to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from neurosearch.core.types import Dataset
from neurosearch.data.histories import history_rows
from neurosearch.negatives.base import graded_pairs

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Examples:
    """Attributes:
    target: row of the product that each example is about.
    queries: E×D vectors of queries; or E×T rows of histories, oldest first, -1 before the first.
    query: number of the query behind each example.
    positives: query · products + row of all positive pairs, ascending.
    """

    target: np.ndarray
    queries: np.ndarray
    query: np.ndarray
    positives: np.ndarray

    def refused(self, chosen: np.ndarray, rows: np.ndarray, products: int) -> np.ndarray:
        """len(chosen)×len(rows): other positives of an example's query, which are no negatives."""
        wanted = self.query[chosen][:, None] * products + rows[None, :]
        places = np.minimum(np.searchsorted(self.positives, wanted), len(self.positives) - 1)
        known: np.ndarray = self.positives[places] == wanted
        others: np.ndarray = known & (rows[None, :] != self.target[chosen][:, None])
        return others


def examples_of(data: Dataset, split: str, recipe: Any, vectors: np.ndarray | None) -> Examples:
    """Positive pairs of a split. Raises InputError where the data has no histories."""
    graded = graded_pairs(data, data.judgments(split), recipe.gain)
    good = graded.filter(pl.col("share") >= recipe.positive_share)
    query, target = good["query"].to_numpy(), good["row"].to_numpy()
    positives = np.sort(query * len(data.catalogue) + target)
    query_vectors = vectors
    if query_vectors is None:
        query_vectors = history_rows(data.queries(split).frame, data.catalogue)
    return Examples(target, query_vectors[query], query, positives)
