"""The nearest products by exact search, and how many of them an index has found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 128  # queries that are compared with all products at a time
TIED = 1e-6  # inner products that differ by less are equal


@dataclass(frozen=True)
class Exact:
    """The queries, and the score of each one's k-th nearest product.

    Attributes:
        queries: Q×D float32.
        products: N×D float32.
        last: Q float32.
        k: products that are wanted.
    """

    queries: np.ndarray
    products: np.ndarray
    last: np.ndarray
    k: int

    @classmethod
    def of(cls, queries: np.ndarray, products: np.ndarray, k: int) -> Exact:
        """Exact search, a block of queries at a time.

        Args:
            queries: Q×D.
            products: N×D.
            k: products that are wanted; at most N.

        Returns:
            What recall is counted against.
        """
        shown = np.asarray(products, dtype=np.float32)
        last = np.empty(len(queries), dtype=np.float32)
        for start in range(0, len(queries), BLOCK):
            part = slice(start, start + BLOCK)
            last[part] = np.partition(queries[part] @ shown.T, -k, axis=1)[:, -k]
        return cls(np.asarray(queries, dtype=np.float32), shown, last, k)

    def recall(self, rows: np.ndarray) -> np.ndarray:
        """Share of each query's k nearest that were found.

        Args:
            rows: Q×k, -1 for none.

        Returns:
            Q float64. A product that scores like the last one counts as well as it does.
        """
        shown = self.products[np.maximum(rows, 0)]
        scores = np.einsum("qd,qkd->qk", self.queries, shown)
        hits = (scores >= self.last[:, None] - TIED) & (rows >= 0)
        found: np.ndarray = hits.sum(axis=1) / self.k
        return found
