"""Kappa: two by two by hand, scikit-learn's, 1 for twins, 0 for chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from neurosearch.evaluation.agreement import confusion, kappa, kappa_interval, nearest_grades


def test_two_by_two_by_hand() -> None:
    # Agreement 35 of 50; by chance .5 · .6 + .5 · .4 = .5.
    table = np.array([[20, 5], [10, 15]])
    assert kappa(table) == pytest.approx((0.7 - 0.5) / 0.5)
    assert kappa(table, linear=False) == kappa(table)


@pytest.mark.parametrize("linear", [True, False])
def test_grades_are_scikit_learn_s(linear: bool) -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 500)
    second = np.clip(first + rng.integers(-1, 2, 500), 0, 3)
    expected = cohen_kappa_score(first, second, weights="linear" if linear else None)
    assert kappa(confusion(first, second, 4), linear) == pytest.approx(expected)


def test_labels_between_grades() -> None:
    levels, steps = np.array([0.0, 0.3, 0.4, 2.0]), np.array([0.0, 0.67, 1.33, 2.0])
    assert nearest_grades(levels, steps).tolist() == [0, 0, 1, 3]


def test_twins_and_strangers() -> None:
    assert kappa(np.diag([3, 4, 5, 1])) == 1.0
    independent = np.outer([1, 2, 3, 4], [4, 3, 2, 1])
    assert kappa(independent) == pytest.approx(0.0)
    assert np.isnan(kappa(np.array([[5, 0], [0, 0]])))


def test_an_interval_is_over_queries() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 400)
    second = np.where(rng.random(400) < 0.8, first, 1 - first)
    alone = kappa_interval(first, second, np.arange(400), 2)
    found = kappa(confusion(first, second, 2))
    assert alone[0] < found < alone[1]
    # Twenty equal pairs a query are twenty times fewer observations.
    again = [np.repeat(x[:20], 20) for x in (first, second)]
    wide = kappa_interval(*again, np.repeat(np.arange(20), 20), 2)
    assert wide[1] - wide[0] > 2 * (alone[1] - alone[0])
