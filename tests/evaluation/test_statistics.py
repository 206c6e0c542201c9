"""Statistics: scipy's where it has them, hand-made cases where not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neurosearch.evaluation.holm import holm
from neurosearch.evaluation.statistics import (
    crossed_intervals,
    crossed_test,
    effect_size,
    randomisation_test,
    resampled_means,
)


def intervals(systems: list[np.ndarray], samples: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return crossed_intervals(systems, resampled_means(systems, samples, seed=0), seed=0)


def p_of(one: np.ndarray, other: np.ndarray, samples: int = 4000, seed: int = 0) -> float:
    first, second = resampled_means([one, other], samples, seed)
    return float(crossed_test(one, other, (first, second), seed)[0])


def test_the_interval_is_scipy_s_percentile_bootstrap() -> None:
    scores = np.random.default_rng(1).beta(1, 2, 300)
    ((low, high),) = intervals([scores.reshape(1, -1, 1)], 10_000)
    theirs = stats.bootstrap((scores,), np.mean, n_resamples=10_000, method="percentile", rng=0)
    assert low[0] == pytest.approx(theirs.confidence_interval.low, abs=2e-3)
    assert high[0] == pytest.approx(theirs.confidence_interval.high, abs=2e-3)


def test_seeds_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    one = rng.beta(1, 2, (1, 300, 1))
    apart = np.concatenate([one - 0.1, one, one + 0.1])
    (one_low, one_high), (low, high) = intervals([one, apart], 4000)
    assert low[0] < one_low[0] - 0.02
    assert high[0] > one_high[0] + 0.02


def test_the_seeds_part_is_student_s() -> None:
    """Queries that all score alike leave the seeds alone: mean ± t(2, .975) s / sqrt(3)."""
    by_seed = np.array([0.30, 0.33, 0.39])
    scores = np.repeat(by_seed[:, None, None], 50, axis=1)
    ((low, high),) = intervals([scores], 200_000)
    half = stats.t.ppf(0.975, 2) * by_seed.std(ddof=1) / 3**0.5
    assert low[0] == pytest.approx(by_seed.mean() - half, rel=0.03)
    assert high[0] == pytest.approx(by_seed.mean() + half, rel=0.03)


def test_the_crossed_test_is_welch_s_where_only_seeds_vary() -> None:
    one, other = np.array([0.30, 0.33, 0.39]), np.array([0.41, 0.40, 0.44])
    scores = [np.repeat(x[:, None, None], 50, axis=1) for x in (one, other)]
    welch = stats.ttest_ind(one, other, equal_var=False).pvalue
    assert p_of(*scores, samples=200_000) == pytest.approx(welch, abs=0.005)


def test_the_crossed_test_is_the_paired_one_where_seeds_agree() -> None:
    rng = np.random.default_rng(5)
    base = rng.beta(1, 2, (1, 400, 1))
    better = base + rng.normal(0.012, 0.1, (1, 400, 1))
    paired = randomisation_test((better - base)[0], 20_000, seed=0)[0]
    assert 0.005 < paired < 0.2
    assert p_of(np.repeat(better, 3, axis=0), base, 20_000) == pytest.approx(paired, abs=0.02)


def test_what_seeds_give_is_no_difference() -> None:
    """Every query gains .02 in each of the three seeds, which differ by more than that."""
    rng = np.random.default_rng(6)
    base = rng.beta(1, 2, (1, 2000, 1))
    noise = np.array([-0.04, 0.03, 0.07])[:, None, None]
    trained = base + noise
    averaged = trained.mean(axis=0) - base[0]
    assert randomisation_test(averaged, 2000, seed=0)[0] < 0.001  # seeds taken as given
    assert p_of(trained, base) > 0.2
    steady = base + np.array([0.019, 0.02, 0.021])[:, None, None]
    assert p_of(steady, base) < 0.005


def test_under_the_null_the_crossed_p_is_not_too_small() -> None:
    """Queries and seeds both vary, and nothing differs: p < .05 in about 5 % of the cases."""
    rng = np.random.default_rng(7)
    found = []
    for trial in range(300):
        easy = rng.normal(0, 0.3, (1, 100, 1))
        systems = [
            easy + rng.normal(0, 0.1, (3, 100, 1)) + rng.normal(0, 0.03, (3, 1, 1))
            for _ in range(2)
        ]
        found.append(p_of(*systems, samples=400, seed=trial))
    assert 0.005 <= np.mean(np.array(found) < 0.05) <= 0.085


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


def test_one_number_of_all_queries_is_not_tested() -> None:
    """Macro-F1, for example, stands in the row of the first query alone."""
    scores = np.full((3, 6, 1), np.nan)
    scores[:, 0, 0] = [0.47, 0.48, 0.46]
    other = np.full((1, 6, 1), np.nan)
    other[:, 0, 0] = 0.27
    means = tuple(resampled_means([scores, other], 200, 0))
    assert crossed_test(scores, other, (means[0], means[1]), 0).tolist() == [1.0]
