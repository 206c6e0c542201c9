"""Are two systems equivalent? Two one-sided tests over queries (TOST, Schuirmann 1987).

That a difference is not significant does not say that there is none. Two systems are equivalent
within a margin where both "the difference is below -margin" and "above +margin" are refuted; that
is the same as the 1 - 2α interval of the mean lying within the margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Equivalence:
    """Attributes:
    mean: of the differences.
    low, high: the 90 % interval of the mean (α = .05 on either side).
    p: the larger of the two one-sided tests'.
    """

    mean: float
    low: float
    high: float
    p: float


def equivalence(differences: np.ndarray, margin: float) -> Equivalence:
    """Test whether paired differences are within ±`margin` on average.

    Args:
        differences: Q, of two systems by query.
        margin: fixed before the differences were seen.

    Returns:
        Mean, interval and p; p is 0 where all differences are equal and within the margin.

    Raises:
        ValueError: there are fewer than two queries, or the margin is not positive.
    """
    from scipy.stats import t

    count = len(differences)
    if count < 2 or margin <= 0:
        raise ValueError("a test of equivalence needs two queries and a positive margin")
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / count**0.5
    if error == 0:
        return Equivalence(mean, mean, mean, 0.0 if abs(mean) < margin else 1.0)
    above = float(t.sf((mean + margin) / error, count - 1))
    below = float(t.cdf((mean - margin) / error, count - 1))
    half = float(t.ppf(0.95, count - 1)) * error
    return Equivalence(mean, mean - half, mean + half, max(above, below))
