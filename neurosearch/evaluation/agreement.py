"""How far two raters agree: Cohen's kappa (Cohen 1960, weighted 1968), by grades and by yes or no.

kappa = 1 - (Σ w_ij o_ij) / (Σ w_ij e_ij), with o the shares of the pairs that one rater gave i and
the other j, e what chance would give, and w_ij = |i - j| (linear weights) or [i ≠ j].
"""

from __future__ import annotations

import numpy as np


def nearest_grades(levels: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Grades of labels that may lie between those of a judge.

    Args:
        levels: P levels of labels.
        steps: K levels of the labels that the grades stand for.

    Returns:
        P grades, 0 to K - 1; of two that are equally near, the lower one.
    """
    found: np.ndarray = np.abs(levels[:, None] - steps).argmin(axis=1)
    return found


def confusion(first: np.ndarray, second: np.ndarray, grades: int) -> np.ndarray:
    """Counts of pairs by both raters' grades.

    Args:
        first: P grades from 0.
        second: P grades of the other rater.
        grades: how many there are.

    Returns:
        grades×grades int64; rows are the first rater's.
    """
    flat = np.bincount(first * grades + second, minlength=grades * grades)
    return flat.reshape(grades, grades)


def kappa(counts: np.ndarray, linear: bool = True) -> float:
    """Cohen's kappa.

    Args:
        counts: K×K, see `confusion`.
        linear: weights |i - j|; else every disagreement counts alike.

    Returns:
        1 for raters that agree, 0 for chance; nan where a rater gave one grade only.
    """
    size = len(counts)
    steps = np.abs(np.arange(size)[:, None] - np.arange(size))
    weights = steps if linear else (steps > 0).astype(int)
    shares = counts / counts.sum()
    expected = shares.sum(axis=1)[:, None] * shares.sum(axis=0)
    by_chance = float((weights * expected).sum())
    return 1 - float((weights * shares).sum()) / by_chance if by_chance > 0 else float("nan")


def kappa_interval(
    first: np.ndarray,
    second: np.ndarray,
    queries: np.ndarray,
    grades: int,
    linear: bool = True,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A 95 % interval of kappa, by resampling whole queries: pairs of a query are not independent.

    Args:
        first: P grades.
        second: P grades of the other rater.
        queries: P numbers from 0 of the pairs' queries.
        grades: how many there are.
        linear: see `kappa`.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The 2.5th and the 97.5th percentile.
    """
    count = int(queries.max()) + 1
    tables = np.zeros((count, grades, grades), dtype=np.int64)
    np.add.at(tables, (queries, first, second), 1)
    rng = np.random.default_rng(seed)
    found = [
        kappa(tables[rng.integers(0, count, count)].sum(axis=0), linear) for _ in range(resamples)
    ]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)
