"""Statistics over several data sets, each with queries of its own.

Means are of data sets, never of pooled queries: the largest set would decide. Claims about *these*
sets are tested by flipping signs within each; claims about other sets need sets to be resampled
too, and few sets say little (Demšar, JMLR 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.evaluation.statistics import randomisation_test

LEAST_SETS = 6  # of a rank test: with five, Wilcoxon's least two-sided p is .0625
# Quantiles of the studentized range at .05 over sqrt(2), for 2 to 10 systems (Demšar's table 5).
Q_05 = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)


def macro_difference(differences: Sequence[np.ndarray]) -> float:
    """The mean over data sets of the mean over queries.

    Args:
        differences: of each set, one number a query.

    Returns:
        The macro-averaged difference.
    """
    return float(np.mean([np.mean(part) for part in differences]))


def stratified_test(differences: Sequence[np.ndarray], permutations: int, seed: int) -> float:
    """Two-sided p of the macro difference, signs of paired differences flipped within each set.

    Args:
        differences: of each set, one number a query.
        permutations: random sign flips.
        seed: of them.

    Returns:
        (1 + #{|flipped| >= |observed|}) / (1 + permutations).
    """
    # A query weighs as much as its share of its set: then the sum over all is the macro difference.
    weighed = np.concatenate([part / len(part) for part in differences])
    return float(randomisation_test(weighed[:, None], permutations, seed)[0])


def two_level_interval(
    differences: Sequence[np.ndarray], samples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the macro difference for sets like these: sets, then their queries.

    Args:
        differences: of each set, one number a query.
        samples: bootstrap resamples.
        seed: of them.
        level: of confidence.

    Returns:
        Its lower and its upper end.
    """
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for number in range(samples):
        chosen = rng.integers(0, len(differences), len(differences))
        parts = (differences[place] for place in chosen)
        means[number] = np.mean(
            [part[rng.integers(0, len(part), len(part))].mean() for part in parts]
        )
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks of systems within each data set, 1 for the best; equal scores share their mean rank.

    Args:
        scores: N×k of data sets and systems, more is better.

    Returns:
        N×k float64.
    """
    from scipy.stats import rankdata

    found: np.ndarray = rankdata(-scores, axis=1)
    return found


@dataclass(frozen=True)
class Friedman:
    """Attributes:
    chi2: Friedman's statistic, 12N/(k(k+1)) [sum R² - k(k+1)²/4].
    F, p: Iman and Davenport's, (N-1) chi2 / (N(k-1) - chi2), with k-1 and (k-1)(N-1) degrees.
    critical_difference: Nemenyi's at .05: mean ranks that differ less are not told apart.
    """

    chi2: float
    F: float
    p: float
    critical_difference: float


def friedman(mean_ranks: np.ndarray, sets: int) -> Friedman:
    """Whether k systems differ over N data sets, by their mean ranks.

    Args:
        mean_ranks: of k systems.
        sets: N.

    Returns:
        The test.

    Raises:
        InputError: too few sets, or systems that the table of quantiles does not have.
    """
    from scipy.stats import f

    k = len(mean_ranks)
    if sets < LEAST_SETS:
        raise InputError(f"ranks over {sets} data sets can't be tested: {LEAST_SETS} are needed")
    if not 2 <= k <= len(Q_05) + 1:
        raise InputError(f"ranks of {k} systems can't be tested: 2 to {len(Q_05) + 1} can")
    spread = float(np.square(mean_ranks).sum()) - k * (k + 1) ** 2 / 4
    chi2 = 12 * sets / (k * (k + 1)) * spread
    below = sets * (k - 1) - chi2
    statistic = (sets - 1) * chi2 / below if below > 0 else float("inf")
    p = float(f.sf(statistic, k - 1, (k - 1) * (sets - 1)))
    return Friedman(chi2, statistic, p, Q_05[k - 2] * float(np.sqrt(k * (k + 1) / (6 * sets))))
