"""Statistics over queries: intervals, paired tests, correction, effect sizes (METHODS 11.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK = 1000  # resamples at a time: bounds memory at 8·CHUNK·Q bytes


def bootstrap_intervals(
    systems: Sequence[np.ndarray], samples: int, seed: int, level: float = 0.95
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Percentile intervals of each system's means over queries (and seeds).

    Each system is S×Q×M: seeds, queries, metrics; all have the same queries, NaN where a
    metric is undefined for a query. A resample draws queries with replacement, the same for
    all systems and metrics, and a system's seeds with replacement (two-level bootstrap), so a
    trained system's interval holds both variances. Returns the M lower and M upper ends of
    each system.
    """
    queries = systems[0].shape[1]
    rng = np.random.default_rng(seed)
    means = [np.empty((samples, scores.shape[2])) for scores in systems]
    for start in range(0, samples, CHUNK):
        size = min(CHUNK, samples - start)
        drawn = rng.integers(0, queries, (size, queries)) + np.arange(size)[:, None] * queries
        counts = np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries)
        weights = counts / queries
        for scores, kept in zip(systems, means, strict=True):
            seeds, _, metrics = scores.shape
            flat = scores.transpose(1, 0, 2).reshape(queries, seeds * metrics)
            defined = np.isfinite(flat)
            sums = weights @ np.where(defined, flat, 0.0)
            with np.errstate(invalid="ignore"):  # a resample may hold no defined query
                by_seed = (sums / (weights @ defined)).reshape(size, seeds, metrics)
            picked = rng.integers(0, seeds, (size, seeds))
            kept[start : start + size] = by_seed[np.arange(size)[:, None], picked].mean(axis=1)
    tail = (1 - level) / 2
    ends = []
    for kept in means:
        found = np.full((2, kept.shape[1]), np.nan)
        known = np.isfinite(kept).any(axis=0)  # a system need not have every metric
        found[:, known] = np.nanquantile(kept[:, known], [tail, 1 - tail], axis=0)
        ends.append((found[0], found[1]))
    return ends


def randomisation_test(differences: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Two-sided p of Fisher's paired randomisation (sign-flip) test, for each metric.

    `differences` is Q×M, NaN where a metric is undefined for a query.
    p = (1 + #{|mean of flipped| >= |mean|}) / (1 + permutations).
    """
    queries, metrics = differences.shape
    differences = np.nan_to_num(differences)  # zeros change neither side of the comparison
    rng = np.random.default_rng(seed)
    observed = np.abs(differences.sum(axis=0))
    # Sums of the same numbers in another order differ in the last bits: those are ties.
    threshold = observed - 1e-9 * np.abs(differences).sum(axis=0)
    exceeding = np.zeros(metrics)
    for start in range(0, permutations, CHUNK):
        size = min(CHUNK, permutations - start)
        signs = rng.integers(0, 2, (size, queries), dtype=np.int8).astype(np.float64) * 2 - 1
        exceeding += (np.abs(signs @ differences) >= threshold).sum(axis=0)
    p: np.ndarray = (1 + exceeding) / (1 + permutations)
    return p


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's (1979) adjusted p-values: reject where the adjusted value is at most alpha."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.maximum.accumulate(p_values[order] * factors).clip(max=1.0)
    result: np.ndarray = np.empty_like(adjusted)
    result[order] = adjusted
    return result


def effect_size(differences: np.ndarray) -> np.ndarray:
    """Cohen's d of paired differences (Q×M): mean over standard deviation; 0 where all equal.

    NaN (a metric undefined for a query) is left out.
    """
    mean = nan_mean(differences, axis=0)
    count = np.isfinite(differences).sum(axis=0)
    squares = np.nansum((differences - mean) ** 2, axis=0)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    effect: np.ndarray = np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
    return effect


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is defined; NaN, without a warning, where nothing is."""
    count = np.isfinite(values).sum(axis=axis)
    sums = np.nansum(values, axis=axis)
    found: np.ndarray = np.where(count > 0, sums / np.maximum(count, 1), np.nan)
    return found
