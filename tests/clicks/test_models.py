"""Click models: planted parameters are found, chances are chances, likelihoods rise."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from neurosearch.clicks.base import ClickLog, ClickModel, perplexity
from neurosearch.clicks.cascade import Cascade
from neurosearch.clicks.dbn import DBN, FittedDBN
from neurosearch.clicks.pbm import PBM, FittedPBM
from neurosearch.clicks.ubm import UBM, FittedUBM
from neurosearch.core.errors import InputError

LISTS, RANKS, PAIRS = 60_000, 6, 24
MODELS: tuple[ClickModel, ...] = (PBM(), Cascade(), UBM(), DBN(), DBN(going_on=1.0))


@pytest.fixture(scope="module")
def planted() -> dict[str, Any]:
    """Lists in random order, and parameters."""
    rng = np.random.default_rng(0)
    pairs = rng.random((LISTS, PAIRS)).argsort(axis=1)[:, :RANKS]
    gamma = np.array([[0.95 * 0.85 ** (k - last) for last in range(RANKS)] for k in range(RANKS)])
    return {
        "rng": rng,
        "pairs": pairs,
        "attraction": rng.uniform(0.1, 0.8, PAIRS),
        "satisfaction": rng.uniform(0.2, 0.8, PAIRS),
        "examination": np.arange(1, RANKS + 1) ** -0.7,
        "browsing": np.minimum(gamma, 0.95),
    }


def dbn_clicks(planted: dict[str, Any], going_on: float) -> np.ndarray:
    rng, pairs = planted["rng"], planted["pairs"]
    clicks = np.zeros(pairs.shape, dtype=bool)
    reading = np.ones(LISTS, dtype=bool)
    for k in range(RANKS):
        clicks[:, k] = reading & (rng.random(LISTS) < planted["attraction"][pairs[:, k]])
        done = clicks[:, k] & (rng.random(LISTS) < planted["satisfaction"][pairs[:, k]])
        reading &= ~done & (rng.random(LISTS) < going_on)
    return clicks


def test_pbm_finds_what_was_planted(planted: dict[str, Any]) -> None:
    chances = planted["examination"] * planted["attraction"][planted["pairs"]]
    log = ClickLog(planted["pairs"], planted["rng"].random(chances.shape) < chances, PAIRS)
    found = PBM().fit(log)
    theta = found.parameters["examination"]
    assert np.abs(theta / theta[0] - planted["examination"]).max() < 0.02
    assert np.abs(found.attraction * theta[0] - planted["attraction"]).max() < 0.02


def test_cascade_finds_what_was_planted(planted: dict[str, Any]) -> None:
    clicks = dbn_clicks(planted, 1.0)
    first = clicks & (np.cumsum(clicks, axis=1) == 1)
    found = Cascade().fit(ClickLog(planted["pairs"], first, PAIRS))
    assert np.abs(found.attraction - planted["attraction"]).max() < 0.02


def test_ubm_finds_what_was_planted(planted: dict[str, Any]) -> None:
    rng, pairs = planted["rng"], planted["pairs"]
    clicks, last = np.zeros(pairs.shape, dtype=bool), np.zeros(LISTS, dtype=np.int64)
    for k in range(RANKS):
        chance = planted["browsing"][k, last] * planted["attraction"][pairs[:, k]]
        clicks[:, k] = rng.random(LISTS) < chance
        last = np.where(clicks[:, k], k + 1, last)
    found = UBM().fit(ClickLog(pairs, clicks, PAIRS))
    gamma = found.parameters["examination"]
    scale = planted["browsing"][0, 0] / gamma[0, 0]
    inside = np.tril(np.ones((RANKS, RANKS), dtype=bool))  # the last click is above
    assert np.abs(gamma * scale - planted["browsing"])[inside].max() < 0.03
    assert np.abs(found.attraction / scale - planted["attraction"]).max() < 0.02


@pytest.mark.parametrize(("going_on", "given"), [(1.0, 1.0), (0.8, None)])
def test_dbn_finds_what_was_planted(
    going_on: float, given: float | None, planted: dict[str, Any]
) -> None:
    log = ClickLog(planted["pairs"], dbn_clicks(planted, going_on), PAIRS)
    found = DBN(going_on=given).fit(log)
    assert abs(found.parameters["going_on"][0] - going_on) < 0.02
    assert np.abs(found.attraction - planted["attraction"]).max() < 0.02
    error = found.parameters["satisfaction"] - planted["satisfaction"]
    assert np.sqrt(np.mean(error**2)) < 0.02


def models_of(pairs: int, ranks: int) -> list[Any]:
    """Fitted models with drawn parameters."""
    rng = np.random.default_rng(1)
    a, s = rng.uniform(0.1, 0.9, pairs), rng.uniform(0.1, 0.9, pairs)
    return [
        FittedPBM(a, {"examination": rng.uniform(0.1, 0.9, ranks)}),
        FittedUBM(a, {"examination": rng.uniform(0.1, 0.9, (ranks, ranks))}),
        FittedDBN(a, {"satisfaction": s, "going_on": np.array([0.7])}),
    ]


@pytest.mark.parametrize("model", models_of(4, 4), ids=lambda one: type(one).__name__)
def test_chances_of_all_patterns_are_one(model: Any) -> None:
    """Exhaustive: all 16 patterns of clicks on a list of four, and their marginals."""
    patterns = np.array(list(itertools.product([False, True], repeat=4)))
    log = ClickLog(np.tile(np.arange(4), (16, 1)), patterns, 4)
    chances = model.conditional(log)
    whole = np.where(patterns, chances, 1 - chances).prod(axis=1)
    assert whole.sum() == pytest.approx(1)
    np.testing.assert_allclose((whole[:, None] * patterns).sum(axis=0), model.marginal(log)[0])


def test_marginals_of_the_cascade() -> None:
    found = Cascade(prior=0.0).fit(
        ClickLog(np.array([[0, 1]] * 4), np.array([[1, 0], [0, 1], [0, 0], [1, 0]], bool), 2)
    )
    assert found.attraction.tolist() == pytest.approx([0.5, 0.5])
    log = ClickLog(np.array([[0, 1]]), np.zeros((1, 2), dtype=bool), 2)
    assert found.marginal(log)[0].tolist() == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("model", MODELS, ids=lambda one: f"{type(one).__name__}")
def test_likelihoods_rise(model: ClickModel, planted: dict[str, Any]) -> None:
    log = ClickLog(planted["pairs"][:3_000], dbn_clicks(planted, 0.8)[:3_000], PAIRS)
    found = model.fit(log)
    assert min(np.diff(found.likelihoods), default=0) > -1e-4  # the prior may pull a little
    assert found.likelihood(log) == pytest.approx(found.likelihoods[-1])


def test_perplexity_by_hand() -> None:
    """Perfect 1, a coin 2, a constant 2^H."""
    log = ClickLog(
        np.zeros((4, 2), dtype=np.int64), np.array([[1, 1], [0, 1], [0, 1], [0, 0]]) > 0, 1
    )
    assert perplexity(log.clicks.astype(float), log) == pytest.approx([1, 1], abs=1e-5)
    assert perplexity(np.full((4, 2), 0.5), log) == pytest.approx([2, 2])
    entropy = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert perplexity(np.tile([0.25, 0.75], (4, 1)), log) == pytest.approx([2**entropy] * 2)


def test_the_true_model_predicts_best(planted: dict[str, Any]) -> None:
    """On held-out lists of users of one kind, their own model has the best likelihood."""
    clicks, pairs = dbn_clicks(planted, 0.8), planted["pairs"]
    half = LISTS // 2
    seen, unseen = (
        ClickLog(pairs[part], clicks[part], PAIRS) for part in (slice(0, half), slice(half, LISTS))
    )
    scores = {type(m).__name__: m.fit(seen).likelihood(unseen) for m in MODELS[:4]}
    assert max(scores, key=lambda name: scores[name]) == "DBN", scores


def test_lists_may_be_short() -> None:
    pairs = np.array([[0, 1, -1], [1, -1, -1]])
    log = ClickLog(pairs, np.array([[1, 0, 0], [1, 0, 0]]) > 0, 2)
    for model in MODELS:
        found = model.fit(log)
        assert np.isfinite(found.likelihoods).all()
        assert (found.marginal(log)[pairs < 0] == 0).all()


@pytest.mark.parametrize(
    ("pairs", "clicks", "words"),
    [
        ([[0, 1]], [[1]], "of one shape"),
        ([[0, -1]], [[0, 1]], "list 0: a click below the end"),
        ([[0, 5]], [[0, 1]], "pair 5 of 2"),
        (np.empty((0, 2)), np.empty((0, 2)), "is empty"),
    ],
)
def test_malformed_logs(pairs: Any, clicks: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ClickLog(np.array(pairs, dtype=np.int64), np.array(clicks) > 0, 2)
