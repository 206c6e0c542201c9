"""Profiles that are a weighted mean of the vectors of what was bought."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# From Q texts and Q×T histories to Q×T weights, where there is a product.
Weights = Callable[[Sequence[str], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class MeanTaste:
    """Attributes:
    vectors: N×D float32, unit vectors of products.
    weights: of a history's products.
    """

    vectors: np.ndarray
    weights: Weights

    def scores(self, texts: Sequence[str], histories: np.ndarray) -> np.ndarray:
        weights = np.where(histories >= 0, self.weights(texts, histories), 0.0)
        weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
        shown = self.vectors[np.maximum(histories, 0)]
        person = np.einsum("qt,qtd->qd", weights.astype(np.float32), shown)
        found: np.ndarray = person @ self.vectors.T
        return found


def by_age(histories: np.ndarray, decay: float) -> np.ndarray:
    """Weights that fall with age.

    Args:
        histories: Q×T product rows, oldest first, -1 in front.
        decay: of each older product.

    Returns:
        Q×T float64: 1 for the newest.
    """
    age = np.arange(histories.shape[1])[::-1].astype(np.float64)
    found: np.ndarray = np.broadcast_to(decay**age, histories.shape)
    return found
