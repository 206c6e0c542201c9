"""Statistics: scipy's where it has them, hand-made cases where not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neurosearch.evaluation.statistics import (
    bootstrap_intervals,
    effect_size,
    holm,
    randomisation_test,
)


def test_the_interval_is_scipy_s_percentile_bootstrap() -> None:
    scores = np.random.default_rng(1).beta(1, 2, 300)
    ((low, high),) = bootstrap_intervals([scores.reshape(1, -1, 1)], 10_000, seed=0)
    theirs = stats.bootstrap((scores,), np.mean, n_resamples=10_000, method="percentile", rng=0)
    assert low[0] == pytest.approx(theirs.confidence_interval.low, abs=2e-3)
    assert high[0] == pytest.approx(theirs.confidence_interval.high, abs=2e-3)


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    one = rng.beta(1, 2, (1, 300, 1))
    apart = np.concatenate([one - 0.1, one, one + 0.1])
    (one_low, one_high), (low, high) = bootstrap_intervals([one, apart], 4000, seed=0)
    assert low[0] < one_low[0] - 0.02
    assert high[0] > one_high[0] + 0.02


def test_the_paired_test_is_scipy_s_exact_one_on_few_queries() -> None:
    difference = np.array([0.3, -0.1, 0.2, 0.05, 0.4, -0.02, 0.1, 0.3, 0.15, -0.2])
    exact = stats.permutation_test(
        (difference, np.zeros(10)), lambda a, b: (a - b).mean(), permutation_type="samples"
    ).pvalue
    got = randomisation_test(difference[:, None], 20_000, seed=0)[0]
    assert got == pytest.approx(exact, abs=0.01)


def test_equal_systems_are_never_different() -> None:
    assert randomisation_test(np.zeros((50, 2)), 500, seed=0).tolist() == [1.0, 1.0]


def test_p_is_never_zero() -> None:
    p = randomisation_test(np.full((200, 1), 0.5), 999, seed=0)
    assert p[0] == pytest.approx(1 / 1000)


def test_under_the_null_p_is_uniform() -> None:
    rng = np.random.default_rng(3)
    p = randomisation_test(rng.normal(size=(40, 400)), 500, seed=0)
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .04 times 3 2 1, made monotone.
    assert holm(np.array([0.04, 0.01, 0.02])).tolist() == pytest.approx([0.04, 0.03, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_p_and_bonferroni(values: list[float]) -> None:
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= np.minimum(1, p * len(p)) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= -1e-12).all()


def test_effect_size_is_mean_over_deviation() -> None:
    difference = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    assert effect_size(difference).tolist() == pytest.approx([2.0, 0.0])
