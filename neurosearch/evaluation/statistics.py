"""Statistics over queries: intervals, paired tests, correction for many tests, effect sizes.

Percentile bootstrap (Efron and Tibshirani 1993), paired randomisation tests (Smucker, Allan and
Carterette, CIKM 2007), Holm's correction (Holm 1979), Cohen's d of the paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK = 1000  # resamples at a time: bounds memory at 8·CHUNK·Q bytes


def resampled_means(systems: Sequence[np.ndarray], samples: int, seed: int) -> list[np.ndarray]:
    """samples×M means of each system over resampled queries, its seeds averaged.

    Each system is S×Q×M: seeds, queries, metrics; all have the same queries, NaN where a metric is
    undefined for a query. A resample draws queries with replacement, the same for all systems and
    metrics, so differences of systems are resampled in pairs.
    """
    queries = systems[0].shape[1]
    rng = np.random.default_rng(seed)
    averaged = [nan_mean(scores, axis=0) for scores in systems]
    means = [np.empty((samples, scores.shape[1])) for scores in averaged]
    for start in range(0, samples, CHUNK):
        size = min(CHUNK, samples - start)
        drawn = rng.integers(0, queries, (size, queries)) + np.arange(size)[:, None] * queries
        counts = np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries)
        weights = counts / queries
        for scores, kept in zip(averaged, means, strict=True):
            defined = np.isfinite(scores)
            sums = weights @ np.where(defined, scores, 0.0)
            with np.errstate(invalid="ignore"):  # a resample may hold no defined query
                kept[start : start + size] = sums / (weights @ defined)
    return means


def seed_variance(scores: np.ndarray) -> tuple[np.ndarray, int]:
    """Variance of a system's mean that is due to its seeds (M), and its degrees of freedom.

    `scores` is S×Q×M. Zero, with no degree of freedom, for a single seed: nothing is known then.
    """
    seeds = len(scores)
    if seeds == 1:
        return np.zeros(scores.shape[2]), 0
    by_seed = nan_mean(scores, axis=1)
    variance: np.ndarray = np.nan_to_num(by_seed.var(axis=0, ddof=1)) / seeds
    return variance, seeds - 1


def crossed_intervals(
    systems: Sequence[np.ndarray],
    means: Sequence[np.ndarray],
    seed: int,
    level: float = 0.95,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Percentile intervals of each system's means, over queries and over seeds.

    To each resample of queries comes a draw of what other seeds would do: Student's t with S - 1
    degrees of freedom, times the standard error over the S seeds. (Resampling three seeds would
    underestimate their spread.)

    Args:
        systems: S×Q×M each: seeds, queries, metrics.
        means: samples×M each, of `resampled_means`.
        level: of confidence.

    Returns:
        The M lower and the M upper ends of each system.
    """
    rng = np.random.default_rng([seed, 1])
    tail = (1 - level) / 2
    ends = []
    for scores, drawn in zip(systems, means, strict=True):
        variance, freedom = seed_variance(scores)
        kept = drawn
        if freedom:
            kept = drawn + rng.standard_t(freedom, (len(drawn), 1)) * np.sqrt(variance)
        intervals = np.full((2, kept.shape[1]), np.nan)
        known = np.isfinite(kept).any(axis=0)  # a system need not have every metric
        intervals[:, known] = np.nanquantile(kept[:, known], [tail, 1 - tail], axis=0)
        ends.append((intervals[0], intervals[1]))
    return ends


def crossed_test(
    one: np.ndarray, other: np.ndarray, means: tuple[np.ndarray, np.ndarray], seed: int
) -> np.ndarray:
    """Two-sided p of the difference of two systems, over queries and over seeds.

    The resampled differences are centred at zero, which is what the null hypothesis says, and get a
    draw of the seeds' part: Welch's standard error of the two systems' seeds, times Student's t
    with Satterthwaite's degrees of freedom. p = (1 + #{|draw| >= |difference|}) / (1 + samples).

    Args:
        one, other: S×Q×M; the numbers of seeds may differ.
        means: samples×M of both, of `resampled_means`.

    Returns:
        M float p; 1 for a metric that is not defined for two queries (one number of all pairs).
    """
    differences = nan_mean(one, axis=0) - nan_mean(other, axis=0)
    observed = nan_mean(differences, axis=0)
    resampled = means[0] - means[1]
    (first, few), (second, more) = seed_variance(one), seed_variance(other)
    total = first + second
    below = first**2 / max(few, 1) + second**2 / max(more, 1)
    # The number of seeds limits the degrees of freedom; without any spread they do not matter.
    freedom = np.divide(total**2, below, out=np.full_like(total, 1e6), where=below > 0)
    rng = np.random.default_rng([seed, 2])
    drawn = rng.standard_t(freedom, (len(resampled), len(freedom))) * np.sqrt(total)
    centred = resampled - observed + drawn
    exceeding = (np.abs(centred) >= np.abs(observed) - 1e-12).sum(axis=0)
    p: np.ndarray = (1 + exceeding) / (1 + len(resampled))
    return np.where(np.isfinite(differences).sum(axis=0) > 1, p, 1.0)


def randomisation_test(differences: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Two-sided p of Fisher's paired randomisation (sign-flip) test, for each metric.

    p = (1 + #{|mean of flipped| >= |mean|}) / (1 + permutations) (Smucker et al. 2007).

    Args:
        differences: Q×M, NaN where a metric is undefined for a query.
        permutations: random sign flips.

    Returns:
        M float p.
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
    means: np.ndarray = np.where(count > 0, sums / np.maximum(count, 1), np.nan)
    return means
