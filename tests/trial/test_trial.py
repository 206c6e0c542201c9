"""Trials: assignment, effects against closed forms, and simulated users against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError, SealedError
from neurosearch.core.runtime import Runtime
from neurosearch.data.shop import Shop
from neurosearch.data.truth import Truth
from neurosearch.interleaving.team_draft import TeamDraft
from neurosearch.trial.assignment import arm, bucket, sample_ratio
from neurosearch.trial.effect import (
    adjusted,
    of_means,
    of_ratios,
    smallest_effect,
    users_needed,
)
from neurosearch.trial.simulated import Population, preference, shown_alone, shown_mixed
from neurosearch.users.pbm import PBMUsers

UNITS = [f"user {n}" for n in range(20_000)]


def test_buckets_are_even_and_stable() -> None:
    counts = np.bincount([bucket("a", unit) // 1_000 for unit in UNITS], minlength=10)
    assert sample_ratio(counts.tolist(), [1] * 10) > 0.001
    assert bucket("a", "user 1") == bucket("a", "user 1")
    assert bucket("ab", "c") != bucket("a", "bc")  # salt and unit do not run into each other


def test_two_salts_are_independent() -> None:
    pairs = np.array([[bucket("a", u) < 5_000, bucket("b", u) < 5_000] for u in UNITS])
    table = [int((pairs == one).all(axis=1).sum()) for one in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert sample_ratio(table, [1, 1, 1, 1]) > 0.001


def test_a_new_arm_takes_from_the_rest_alone() -> None:
    before = [arm("s", unit, [0.4, 0.4]) for unit in UNITS]
    after = [arm("s", unit, [0.4, 0.4, 0.1]) for unit in UNITS]
    moved = [b for a, b in zip(before, after, strict=True) if a != b]
    assert moved and set(moved) == {2}
    assert all(a == -1 for a, b in zip(before, after, strict=True) if a != b)
    shares = np.bincount([one for one in after if one >= 0]) / len(UNITS)
    assert shares == pytest.approx([0.4, 0.4, 0.1], abs=0.01)


def test_bad_assignments() -> None:
    with pytest.raises(InputError, match=r"task\.salt"):
        arm("", "u", [0.5])
    with pytest.raises(InputError, match=r"task\.shares"):
        arm("s", "u", [0.7, 0.7])


def test_mismatched_samples() -> None:
    """1.23 points of 20,000 are found half of the time at .0005; three points always."""
    assert sample_ratio([10_000, 10_000], [1, 1]) == 1
    assert sample_ratio([10_300, 9_700], [1, 1]) < 0.0005


def test_means_against_scipy() -> None:
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 4_000), rng.normal(0.05, 2, 5_000)
    found = of_means(a, b)
    reference = ttest_ind(b, a, equal_var=False)
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.z == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue, rel=0.01)


def test_cuped_leaves_the_unexplained_variance() -> None:
    """With correlation ρ to what was before, the variance is (1 - ρ²) of the plain one."""
    rng = np.random.default_rng(0)
    arms = []
    for effect in (0.0, 0.1):
        before = rng.normal(size=20_000)
        arms.append((0.8 * before + 0.6 * rng.normal(size=20_000) + effect, before))
    plain, less = of_means(arms[0][0], arms[1][0]), adjusted(arms[0], arms[1])
    assert (less.error / plain.error) ** 2 == pytest.approx(1 - 0.8**2, abs=0.02)
    assert less.difference == pytest.approx(0.1, abs=0.03)
    constant = adjusted(*((y, np.ones_like(y)) for y, _ in arms))  # type: ignore[arg-type]
    assert constant.difference == pytest.approx(plain.difference)


def sessions(rng: np.random.Generator, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Clicks and sessions of users who differ much."""
    counts = rng.geometric(0.3, users).astype(np.float64)
    rate = rng.beta(0.4, 0.9, users)
    return rng.binomial(counts.astype(int), rate).astype(np.float64), counts


def test_the_delta_method_is_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    first, second = sessions(rng, 3_000), sessions(rng, 3_000)
    found = of_ratios(first, second)
    draws = []
    for _ in range(1_000):
        parts = []
        for over, under in (first, second):
            some = rng.integers(len(over), size=len(over))
            parts.append(over[some].sum() / under[some].sum())
        draws.append(parts[1] - parts[0])
    assert found.error == pytest.approx(np.std(draws), rel=0.06)


def test_null_trials_have_uniform_p_values() -> None:
    """A/A splits: the share of p < .05 is 5 %, and sessions taken as independent fail."""
    rng = np.random.default_rng(0)
    right, wrong = [], []
    for _ in range(1_000):
        arms = sessions(rng, 400), sessions(rng, 400)
        right.append(of_ratios(*arms).p)
        means = [over.sum() / under.sum() for over, under in arms]
        variances = [m * (1 - m) / under.sum() for m, (_, under) in zip(means, arms, strict=True)]
        wrong.append(abs(means[1] - means[0]) / np.sqrt(sum(variances)) > 1.96)
    from scipy.stats import kstest

    assert kstest(right, "uniform").pvalue > 0.001
    assert np.mean(np.array(right) < 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(wrong) > 0.1


def test_power_by_hand() -> None:
    """2 (1.96 + .8416)² s² / d² = 15.7 s² / d²."""
    assert users_needed(1.0, 0.1) == pytest.approx(1569.8, abs=0.2)
    assert smallest_effect(1.0, 1570) == pytest.approx(0.1, abs=1e-4)
    assert users_needed(1.0, 0.0) == np.inf


@pytest.fixture(scope="module")
def truth_shop() -> Shop:
    return Shop(n_products=500, n_queries=60, n_sessions=0, images=False)


def test_judgments_agree_with_the_truth(truth_shop: Shop, shop_runtime: Runtime) -> None:
    """Every pooled label is that of the truth; and the truth knows more relevant products."""
    found = shop_runtime.get(Truth(truth_shop, "dev"))
    data = shop_runtime.get(truth_shop.dataset())
    judged = data.judgments("dev").frame
    rows = dict(zip(data.catalogue.ids.to_list(), range(len(data.catalogue)), strict=True))
    places = {name: place for place, name in enumerate(found.query_ids)}
    assert found.query_ids == data.queries("dev").ids.to_list()
    for query, product, label in judged.select("query_id", "product_id", "label").iter_rows():
        assert "ICSE"[found.grades[places[query], rows[product]]] == label
    pooled = judged.filter(pl.col("label") == "E").height
    assert (np.asarray(found.grades) == 3).sum() >= pooled


def test_nothing_may_learn_from_the_truth(truth_shop: Shop, shop_runtime: Runtime) -> None:
    class Learner(Artifact[Any]):
        kind = "learner"

        def inputs(self) -> list[Artifact[Any]]:
            return [Truth(truth_shop)]

        def build(self, folder: Any, runtime: Runtime) -> None:
            (folder / "x").write_text("x")

    with pytest.raises(SealedError):
        shop_runtime.store.ensure(Learner())


def test_simulated_trials_find_the_better_list() -> None:
    """The effect is the closed form's, and interleaving needs fewer impressions."""
    rng = np.random.default_rng(0)
    truth = np.zeros((50, 40), dtype=np.uint8)
    truth[:, :5] = 3
    good = np.tile(np.arange(10), (50, 1))
    bad = np.tile(np.arange(10), (50, 1))
    bad[:, [0, 9]] = bad[:, [9, 0]]
    population = Population.drawn(20_000, 50, rng)
    users = PBMUsers()
    counts = population.impressions
    arms, expected = [], []
    for lists in (bad, good):
        grades = np.take_along_axis(truth, lists, axis=1).astype(np.int64)
        clicks = shown_alone(population, grades, users, rng).sum(axis=1).astype(np.float64)
        arms.append((population.summed(clicks), counts))
        ready = np.quantile(population.readiness[population.user], (np.arange(64) + 0.5) / 64)
        chances = [users.expected(grades, np.full(50, one)) for one in ready]
        expected.append(np.mean([part.sum(axis=1).mean() for part in chances]))
    trial = of_ratios(arms[0], arms[1])
    wanted = expected[1] - expected[0]
    assert abs(trial.difference - wanted) < 4 * trial.error and trial.z > 5
    liked = shown_mixed(population, (bad, good), truth, TeamDraft(), {"pbm": users}, rng)["pbm"]
    both = preference(population, liked)
    assert both.z > trial.z
    null = shown_mixed(population, (good, good), truth, TeamDraft(), {"pbm": users}, rng)["pbm"]
    assert (null == 0).all()  # equal lists are ties


def test_population() -> None:
    found = Population.drawn(5_000, 7, np.random.default_rng(0))
    assert found.impressions.mean() == pytest.approx(1 / 0.3, rel=0.05)
    assert found.readiness.mean() == pytest.approx(1, rel=0.05)
    assert (Population.drawn(10, 7, np.random.default_rng(0), alike=True).readiness == 1).all()
    assert set(found.query.tolist()) == set(range(7))
