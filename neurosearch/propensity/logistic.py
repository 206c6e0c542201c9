"""Logistic regression on features of pairs, for soft labels: what relevance looks like."""

from __future__ import annotations

import numpy as np


class Logistic:
    """Fitted by L-BFGS; features are standardised, and `ridge` keeps weights small."""

    def __init__(self, features: np.ndarray, ridge: float = 1.0) -> None:
        spread = features.std(axis=0)
        scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        self._inputs = np.hstack([scaled, np.ones((len(features), 1))])
        self._ridge = ridge
        self._weights = np.zeros(self._inputs.shape[1])

    def fit(self, hits: np.ndarray, trials: np.ndarray, kept: np.ndarray | None = None) -> None:
        """Fit shares, beginning with the weights of the last fit.

        Args:
            hits: P float64, from 0 to `trials`.
            trials: P float64.
            kept: P bool, pairs that are looked at; None for all.
        """
        from scipy.optimize import minimize

        chosen = trials > 0 if kept is None else (trials > 0) & kept
        inputs, y, n = self._inputs[chosen], hits[chosen], trials[chosen]

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            logits = inputs @ weights
            value = float((n * np.logaddexp(0, logits) - y * logits).sum())
            gradient = inputs.T @ (n / (1 + np.exp(-logits)) - y)
            inner = np.append(weights[:-1], 0.0)  # the intercept is free
            return value + self._ridge / 2 * float(inner @ inner), gradient + self._ridge * inner

        found = minimize(loss, self._weights, jac=True, method="L-BFGS-B")
        self._weights = found.x

    def chances(self) -> np.ndarray:
        """Of all pairs.

        Returns:
            P float64.
        """
        found: np.ndarray = 1 / (1 + np.exp(-(self._inputs @ self._weights)))
        return found
