"""Statistics over data sets: Demšar's example, exhaustive flips, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.evaluation.over_sets import (
    friedman,
    macro_difference,
    ranks,
    stratified_test,
    two_level_interval,
)


def test_demsars_example() -> None:
    """Demšar (2006), table 6: C4.5 and its variants on 14 data sets."""
    test = friedman(np.array([3.143, 2.000, 2.893, 1.964]), 14)
    assert test.chi2 == pytest.approx(9.28, abs=0.01)
    assert pytest.approx(3.69, abs=0.01) == test.F
    assert test.critical_difference == pytest.approx(1.25, abs=0.01)
    assert 0.01 < test.p < 0.05  # F(3, 39) is 2.85 at .05


def test_few_sets_are_refused() -> None:
    with pytest.raises(InputError, match="over 5 data sets can't be tested: 6 are needed"):
        friedman(np.array([1.0, 2.0]), 5)


def test_signs_are_flipped_within_sets() -> None:
    parts = [np.array([0.3, 0.1, -0.2]), np.array([0.5, 0.4])]
    observed = macro_difference(parts)
    assert observed == pytest.approx((0.2 / 3 + 0.45) / 2)
    flips = itertools.product([-1, 1], repeat=5)
    means = [
        (np.mean(parts[0] * f[:3]) + np.mean(parts[1] * f[3:])) / 2 for f in map(np.array, flips)
    ]
    exact = np.mean([abs(mean) >= observed - 1e-12 for mean in means])
    assert stratified_test(parts, 20_000, 0) == pytest.approx(exact, abs=0.01)


def test_a_large_set_does_not_decide() -> None:
    parts = [np.full(1000, 0.1), np.full(10, -0.1)]
    assert macro_difference(parts) == pytest.approx(0.0)
    low, high = two_level_interval(parts, 500, 0)
    assert low == pytest.approx(-0.1) and high == pytest.approx(0.1)


def test_equal_scores_share_a_rank() -> None:
    assert ranks(np.array([[0.5, 0.7, 0.5]])).tolist() == [[2.5, 1.0, 2.5]]
