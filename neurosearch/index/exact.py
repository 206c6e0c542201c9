"""The nearest products by exact search, and how many of them an index has found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurosearch.core.shards import blocks_of, forgotten

ASKED = 128  # queries that are compared with all products at a time
TIED = 1e-6  # inner products that differ by less are equal


@dataclass(frozen=True)
class Exact:
    """The queries, and the score of each one's k-th nearest product.

    Attributes:
        queries: Q×D float32.
        products: N×D, of any float type.
        last: Q float32.
        k: products that are wanted.
    """

    queries: np.ndarray
    products: np.ndarray
    last: np.ndarray
    k: int

    @classmethod
    def of(cls, queries: np.ndarray, products: np.ndarray, k: int) -> Exact:
        """Exact search, a block of products and of queries at a time.

        Args:
            queries: Q×D.
            products: N×D.
            k: products that are wanted; at most N.

        Returns:
            What recall is counted against.
        """
        asked = np.asarray(queries, dtype=np.float32)
        best = np.full((len(asked), k), -np.inf, dtype=np.float32)
        for block in blocks_of(products):
            for start in range(0, len(asked), ASKED):
                part = slice(start, start + ASKED)
                scores = np.hstack([best[part], asked[part] @ block.T])
                best[part] = np.partition(scores, -k, axis=1)[:, -k:]
        return cls(asked, products, best.min(axis=1), k)

    def part(self, size: int) -> Exact:
        """Some of the queries.

        Args:
            size: of so many, one is kept.

        Returns:
            Every `size`-th query.
        """
        return replace(self, queries=self.queries[::size], last=self.last[::size])

    def recall(self, rows: np.ndarray) -> np.ndarray:
        """Share of each query's k nearest that were found.

        Args:
            rows: Q×k, -1 for none.

        Returns:
            Q float64. A product that scores like the last one counts as well as it does.
        """
        scores = np.empty(rows.shape, dtype=np.float32)
        for start in range(0, len(rows), ASKED):
            part = slice(start, start + ASKED)
            shown = np.asarray(self.products[np.maximum(rows[part], 0)], dtype=np.float32)
            scores[part] = np.einsum("qd,qkd->qk", self.queries[part], shown)
        forgotten(self.products)
        hits = (scores >= self.last[:, None] - TIED) & (rows >= 0)
        found: np.ndarray = hits.sum(axis=1) / self.k
        return found
