"""Position bias: planted chances are found, and only where pairs move between ranks."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from neurosearch.clicks.base import ClickLog
from neurosearch.clicks.trust import Trust
from neurosearch.core.errors import InputError
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Propensity, shown_at
from neurosearch.propensity.dla import DLA, softmax
from neurosearch.propensity.em import EM
from neurosearch.propensity.harvest import Harvest
from neurosearch.propensity.known import Known
from neurosearch.propensity.logistic import Logistic
from neurosearch.propensity.random import Random
from neurosearch.propensity.regression_em import RegressionEM
from neurosearch.users.pbm import PBMUsers
from neurosearch.users.trust import TrustUsers

QUERIES, PRODUCTS, K, NOISE = 40, 12, 8, 1.5
GRADES = np.random.default_rng(7).choice(4, size=(QUERIES, PRODUCTS), p=(0.4, 0.2, 0.2, 0.2))


def logged(users, lists: int, noise: float = NOISE, shuffled: float = 0.0) -> LoggedClicks:
    """Lists in a noisy order of the grades, and clicks."""
    rng = np.random.default_rng(3)
    query = rng.integers(QUERIES, size=lists)
    random = rng.random(lists) < shuffled
    scores = GRADES[query] * ~random[:, None] + rng.normal(0, noise, size=(lists, PRODUCTS))
    order = np.argsort(-scores, axis=1)[:, :K]
    clicks = users.clicks(np.take_along_axis(GRADES[query], order, axis=1), rng)
    log = ClickLog(query[:, None] * PRODUCTS + order, clicks, QUERIES * PRODUCTS)
    names = {
        "query_id": [f"q{n // PRODUCTS}" for n in range(log.count)],
        "product_id": [f"p{n % PRODUCTS}" for n in range(log.count)],
    }
    empty = np.full(clicks.shape, np.nan), np.zeros(clicks.shape, dtype=bool)
    return LoggedClicks(log, pl.DataFrame(names), random, *empty, np.ones(log.count, dtype=int))


def features() -> tuple[np.ndarray, np.ndarray]:
    """What tells grades apart, exactly."""
    held = GRADES.ravel()
    query = np.repeat(np.arange(QUERIES), PRODUCTS)
    return np.stack([held == g for g in range(1, 4)], axis=1).astype(float), query


@pytest.mark.parametrize(
    "estimator, tolerance",
    [(EM(), 0.02), (Harvest(), 0.02), (Random(), 0.05), (RegressionEM(), 0.02), (Known(), 1e-12)],
)
@pytest.mark.parametrize("decay", [0.7, 0.0])
def test_planted_chances_are_found(estimator: Propensity, tolerance: float, decay: float) -> None:
    if isinstance(estimator, Known):
        estimator = Known(decay=decay)
    users = PBMUsers(decay=decay)
    found = estimator.examination(logged(users, 40_000, shuffled=0.3), features)
    assert found[0] == 1
    assert np.abs(found - users.looked(K)).max() < tolerance


def test_dual_learning_comes_near() -> None:
    """It weights by ratios of softmaxes, so it is never exact; click rates are further away."""
    users = PBMUsers()
    whole = logged(users, 40_000)
    rates = whole.log.clicks.mean(axis=0)
    error = np.abs(DLA().examination(whole, features) - users.looked(K)).max()
    assert error < 0.1 < np.abs(rates / rates[0] - users.looked(K)).max()


def test_a_softmax_is_of_what_is_shown() -> None:
    found = softmax(np.log([[1.0, 3.0, 9.0]]), np.array([[True, True, False]]))
    assert found == pytest.approx(np.array([[0.25, 0.75, 0.0]]))


def test_harvesting_by_hand() -> None:
    """A pair stood 4 times at each rank: 2 clicks, and 1; so the second rank is half as good."""
    pairs = np.array([[0, 1]] * 4 + [[1, 0]] * 4)
    clicks = np.zeros((8, 2), dtype=bool)
    clicks[:2, 0] = clicks[4:6, 0] = True  # pair 0 and pair 1 at the first rank
    clicks[:1, 1] = clicks[4:5, 1] = True
    log = ClickLog(pairs, clicks, 2)
    nothing = np.full((8, 2), np.nan), np.zeros((8, 2), dtype=bool)
    names = pl.DataFrame({"query_id": ["q", "q"], "product_id": ["a", "b"]})
    whole = LoggedClicks(log, names, np.zeros(8, dtype=bool), *nothing, np.ones(2, dtype=int))
    assert Harvest(overlap=2).examination(whole, features) == pytest.approx([1.0, 0.5])
    assert shown_at(log).tolist() == [[4, 4], [4, 4]]
    assert shown_at(log, clicks.astype(float)).tolist() == [[2, 1], [2, 1]]


@pytest.mark.parametrize("estimator", [EM(), Harvest(), DLA()])
def test_bias_is_refused_where_pairs_do_not_move(estimator: Propensity) -> None:
    with pytest.raises(InputError, match=r"pairs stood at rank \d+ and at another.*overlap"):
        estimator.examination(logged(PBMUsers(), 500, noise=0.0), features)


def test_random_order_is_needed() -> None:
    with pytest.raises(InputError, match="0 lists were shown in random order"):
        Random().examination(logged(PBMUsers(), 500), features)


def test_logistic_regression_finds_the_shares_of_groups() -> None:
    inputs = np.repeat(np.eye(2), 50, axis=0)
    model = Logistic(inputs, ridge=1e-6)
    model.fit(np.repeat([0.2, 0.7], 50), np.ones(100))
    assert model.chances()[[0, 99]] == pytest.approx([0.2, 0.7], abs=1e-3)
    model.fit(np.repeat([0.2, 0.7], 50), np.ones(100), np.arange(100) < 50)
    assert model.chances()[0] == pytest.approx(0.2, abs=1e-3)


def test_trusting_users_click_on_what_is_high_for_its_place() -> None:
    """P(click) = θ (a + (1 - a) trust / k), by enumeration of one draw."""
    users = TrustUsers(decay=0.5, trust=0.4)
    grades = np.array([[0, 3, -1]])
    wanted = [0.02 + 0.98 * 0.4, 2**-0.5 * (0.8 + 0.2 * 0.2), 0.0]
    assert users.expected(grades)[0] == pytest.approx(wanted)
    drawn = users.clicks(np.repeat(grades, 40_000, axis=0), np.random.default_rng(0))
    assert drawn.mean(axis=0) == pytest.approx(wanted, abs=0.01)


def test_the_trust_model_predicts_trusting_users_best_and_orders_by_relevance() -> None:
    users = TrustUsers(trust=0.6)
    whole = logged(users, 60_000)
    held = np.arange(60_000) % 2 == 0
    seen, unseen = whole.part(held).log, whole.part(~held).log
    fitted = Trust(prior=0.01).fit(seen)
    steps = np.diff(fitted.likelihoods)
    assert (steps > -1e-6).all()  # the likelihood rises
    grades = np.take_along_axis(
        GRADES[unseen.pairs[:, 0] // PRODUCTS], unseen.pairs % PRODUCTS, axis=1
    )
    wanted = users.expected(grades)
    assert np.abs(fitted.marginal(unseen) - wanted).mean() < 0.02
    means = [fitted.attraction[GRADES.ravel() == g].mean() for g in range(4)]
    assert means == sorted(means)


def test_a_log_without_a_click_says_nothing() -> None:
    whole = logged(PBMUsers(), 500)
    silent = ClickLog(whole.log.pairs, np.zeros_like(whole.log.clicks), whole.log.count)
    rest = whole.randomised, whole.dwell, whole.purchased, whole.clickers
    with pytest.raises(InputError, match="no click"):
        Harvest(overlap=0).examination(LoggedClicks(silent, whole.pairs, *rest), features)
