"""Scores from some of the labels: sums weighted by the chances of their being drawn.

Horvitz and Thompson (1952): Σ w g / π over the judged pairs. Assisted by a model: Σ w ĝ over all
pairs, plus Σ w (g - ĝ) / π over the judged ones, where ĝ is predicted from ranks by the labels of
other queries, so that a poor model costs precision and no bias (Särndal et al. 1992). Variances
are Hájek's (1964), for draws of a fixed size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Annotation, Design, Pool

FOLDS = 5
RIDGE = 1.0


@dataclass(frozen=True)
class Estimates:
    """Attributes:
    scores: S float64, DCG of the systems.
    covariance: S×S float64, of the draw; NaN where it is unknown.
    labels: that were needed.
    """

    scores: np.ndarray
    covariance: np.ndarray
    labels: int

    def gap(self, first: int, second: int) -> tuple[float, float]:
        """The difference of two systems.

        Args:
            first: a system's number.
            second: another one's.

        Returns:
            Difference, and its standard error.
        """
        cov = self.covariance
        variance = cov[first, first] + cov[second, second] - 2 * cov[first, second]
        return float(self.scores[second] - self.scores[first]), float(np.sqrt(max(variance, 0.0)))


def estimates(pool: Pool, gains: np.ndarray, design: Design, assisted: bool) -> Estimates:
    """The systems' scores.

    Args:
        pool: of the systems.
        gains: U float64; read where `design.chosen`.
        design: what was judged.
        assisted: by a model of gains.

    Returns:
        Scores and their covariance.
    """
    chosen = design.chosen
    known = np.where(chosen, gains, 0.0)
    count = int(chosen.sum())
    if np.isnan(design.chances).all():
        nothing = np.full((len(pool.systems),) * 2, np.nan)
        return Estimates(pool.scores(known), nothing, count)
    predicted = np.zeros(len(pool))
    if design.predicted is not None:
        predicted = design.predicted
    elif assisted:
        predicted = predictions(pool, known, design)
    left = pool.weights * np.where(chosen, known - predicted, 0.0) / pool.queries  # S×U
    chances = design.chances
    if design.by_query:
        left, chances, drawn = _by_query(pool, left, design)
    else:
        drawn = chosen
    expanded = np.where(drawn, left / np.maximum(chances, 1e-12), 0.0)
    scores = pool.scores(predicted) + expanded.sum(axis=1)
    return Estimates(scores, hajek(expanded[:, drawn], chances[drawn]), count)


def hajek(expanded: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Variance of a sum over a draw of a fixed size.

    Args:
        expanded: S×n float64, y / π of what was drawn.
        chances: n float64.

    Returns:
        S×S float64.
    """
    rest = 1 - chances
    count = len(chances)
    if count < 2 or rest.sum() <= 1e-12:
        return np.zeros((len(expanded), len(expanded)))
    centre = (expanded * rest).sum(axis=1, keepdims=True) / rest.sum()
    apart = expanded - centre
    found: np.ndarray = count / (count - 1) * (apart * rest) @ apart.T
    return found


def predictions(pool: Pool, known: np.ndarray, design: Design) -> np.ndarray:
    """Gains from ranks: ridge regression, for each query by the labels of the others.

    Args:
        pool: of the systems.
        known: U float64, gains of what was judged.
        design: what was judged, and with which chances.

    Returns:
        U float64.
    """
    features = features_of(pool)
    found = np.zeros(len(pool))
    for fold in range(FOLDS):
        mine = pool.query % FOLDS == fold
        seen = design.chosen & ~mine
        if seen.sum() < features.shape[1]:
            continue
        weights = 1 / np.maximum(design.chances[seen], 1e-12)
        found[mine] = features[mine] @ ridge(features[seen], known[seen], weights)
    return found


def features_of(pool: Pool) -> np.ndarray:
    """What gains are predicted from: a one, the discounts in every system, the share of systems.

    Args:
        pool: of the systems.

    Returns:
        U×(S + 2) float64.
    """
    ones, votes = np.ones(len(pool)), (pool.weights > 0).mean(axis=0)
    return np.vstack([ones, pool.weights, votes]).T


def ridge(inputs: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted ridge regression; the first column, a one, is free.

    Args:
        inputs: n×F float64.
        wanted: n float64.
        weights: n float64.

    Returns:
        F float64.
    """
    scaled = inputs * (weights / weights.mean())[:, None]
    normal = scaled.T @ inputs
    normal[np.diag_indices_from(normal)] += np.append(0.0, np.full(len(normal) - 1, RIDGE))
    found: np.ndarray = np.linalg.solve(normal, scaled.T @ wanted)
    return found


def _by_query(
    pool: Pool, values: np.ndarray, design: Design
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, chances and draws of whole queries."""
    count = int(pool.query.max()) + 1
    sums = np.stack([np.bincount(pool.query, line, minlength=count) for line in values])
    chances, drawn = np.ones(count), np.zeros(count, dtype=bool)
    chances[pool.query] = design.chances
    drawn[pool.query[design.chosen]] = True
    return sums, chances, drawn


def judged(
    annotation: Annotation, pool: Pool, gains: np.ndarray, budget: int, rng: np.random.Generator
) -> Design:
    """What a design would judge, where all gains are known: for simulations.

    Args:
        annotation: the design.
        pool: of the systems.
        gains: U float64, of 0 to 1.
        budget: labels.
        rng: of the draws.

    Returns:
        The judged pairs and their chances.
    """
    steps = annotation.steps(pool, budget, rng)
    plan = next(steps)
    while True:
        try:
            plan = steps.send(np.where(plan.chosen, gains, np.nan))
        except StopIteration:
            return plan
