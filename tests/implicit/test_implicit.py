"""Labels from clicks: means over all click patterns equal the relevance, and trainings use them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import polars as pl
import pytest

from neurosearch.clicks.base import ClickLog
from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.biencoder.recipe import BiEncoder
from neurosearch.evaluation.gain import LabelGain
from neurosearch.implicit.base import CLICK_GAIN, ClickJudged, Estimator, taught
from neurosearch.implicit.click_model import ModelAttraction
from neurosearch.implicit.doubly_robust import DoublyRobust
from neurosearch.implicit.ips import IPS
from neurosearch.implicit.labels import Labels
from neurosearch.implicit.naive import Naive
from neurosearch.implicit.policy_aware import PolicyAware
from neurosearch.implicit.snips import SNIPS
from neurosearch.logs.base import LoggedClicks
from neurosearch.logs.simulated import Simulated
from neurosearch.negatives.base import NegativeLists, TrainingContext
from neurosearch.negatives.skip_above import SkipAbove
from neurosearch.propensity.known import Known
from neurosearch.query.none import NoProcessing
from neurosearch.reranker.lambdamart import LambdaMART
from neurosearch.retriever.bm25 import BM25

GAIN = LabelGain("g", {"E": 3, "S": 2, "C": 1, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",))
LOGS = Simulated(ranker=BM25(engine="bm25s"), gain=GAIN, lists=2_000)
PAIRS = np.array([[0, 1, 2], [2, 0, 1]])
RELEVANCE = np.array([0.9, 0.3, 0.6])
THETA = np.array([1.0, 0.5, 0.25])


def logged(clicks: np.ndarray) -> LoggedClicks:
    log = ClickLog(PAIRS, clicks, 3)
    names = pl.DataFrame({"query_id": ["q"] * 3, "product_id": ["a", "b", "c"]})
    nothing = np.full(PAIRS.shape, np.nan), np.zeros(PAIRS.shape, dtype=bool)
    return LoggedClicks(log, names, np.zeros(2, dtype=bool), *nothing, np.ones(3, dtype=int))


def features() -> tuple[np.ndarray, np.ndarray]:
    return np.array([[1.0], [0.0], [0.5]]), np.array([0, 1, 2])


def expected(estimator: Estimator, theta: np.ndarray = THETA) -> np.ndarray:
    """The mean estimate over all 64 patterns of clicks, each by its chance."""
    total = np.zeros(3)
    for pattern in itertools.product((False, True), repeat=6):
        clicks = np.array(pattern).reshape(2, 3)
        chances = THETA * RELEVANCE[PAIRS]
        weight = float(np.where(clicks, chances, 1 - chances).prod())
        total += weight * estimator.relevance(logged(clicks), theta, features)
    return total


def made(kind: Any, **more: Any) -> Any:
    return kind(logs=LOGS, gain=GAIN, propensity=Known(ranks=3), ranks=3, **more)


@pytest.mark.parametrize("kind", [IPS, PolicyAware, DoublyRobust])
def test_the_mean_over_all_patterns_is_the_relevance(kind: Any) -> None:
    found = expected(made(kind))
    if kind is DoublyRobust:
        # Its prediction depends on the clicks of other queries alone: correction is exact.
        assert found == pytest.approx(RELEVANCE, abs=1e-6)
    assert found == pytest.approx(RELEVANCE, abs=1e-6)


def test_naive_clicks_are_biased_by_what_is_looked_at() -> None:
    """Pair 0 stands at ranks 1 and 2, pair 1 at 2 and 3, pair 2 at 3 and 1."""
    looked = np.array([(1 + 0.5) / 2, (0.5 + 0.25) / 2, (0.25 + 1) / 2])
    assert expected(made(Naive)) == pytest.approx(RELEVANCE * looked)


def test_propensities_of_1_are_naive() -> None:
    ones = np.ones(3)
    for kind in (IPS, PolicyAware):
        assert expected(made(kind), ones) == pytest.approx(expected(made(Naive)))


def test_clipping_pulls_down_what_is_seldom_looked_at() -> None:
    found = expected(made(IPS, clip=0.5))
    # At θ .25 a click counts 2 instead of 4: half of that rank's share is lost.
    assert found == pytest.approx(RELEVANCE * np.array([1.0, 0.75, 0.75]))


def test_self_normalised_weights_have_the_mean_1() -> None:
    clicks = np.array([[True, False, True], [False, True, False]])
    found = made(SNIPS).relevance(logged(clicks), THETA, features)
    weights = np.array([1.0, 1 / THETA[1] * 0, 0.0])  # clicks of pair 0: rank 1 and rank 2
    weights = np.array([1 / 1.0 + 1 / 0.5, 0.0, 1 / 0.25]) / ((1 + 2 + 4) / 3)
    assert found == pytest.approx(weights / 2)


def test_a_prior_pulls_towards_the_mean_of_the_pairs() -> None:
    found = made(Naive, prior=2.0).shrunk(np.array([1.0, 0.0]), np.array([2.0, 2.0]))
    assert found == pytest.approx([(1 + 2 * 0.25) / 4, (0 + 2 * 0.25) / 4])


def test_the_estimate_is_worth_what_clicks_are_worth() -> None:
    clicks = np.array([[True, False, False], [False, True, False]])
    whole = logged(clicks)
    whole.purchased[0, 0] = True
    found = made(IPS, purchase=3.0).relevance(whole, np.ones(3), features)
    assert found == pytest.approx([(4 + 1) / 2, 0, 0])


@pytest.fixture(scope="module")
def judged(shop: Artifact[Dataset], shop_runtime: Runtime) -> Any:
    recipe = Naive(logs=LOGS, gain=GAIN)
    return recipe, recipe.judged(shop)


def test_labels_follow_clicks(judged: Any, shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    recipe, source = judged
    data = shop_runtime.get(view.learning(source))
    labels = data.judgments("train").frame
    log = shop_runtime.get(recipe.logs.log(shop, "train")).frame
    rates = log.group_by("query_id", "product_id").agg(rate=pl.col("clicked").mean())
    both = labels.with_columns(pl.col("label").cast(pl.Float64)).join(
        rates, on=["query_id", "product_id"]
    )
    assert both.height == labels.height == rates.height
    scale = float(np.quantile(both["rate"].to_numpy(), 0.99))
    wanted = (both["rate"] / scale).clip(0, 1)
    assert both["label"].to_numpy() == pytest.approx(wanted.to_numpy(), abs=6e-5)
    assert CLICK_GAIN.graded(data.judgments("dev"))["gain"].max() == 1.0


def test_products_and_queries_are_the_datas_own(judged: Any, shop: Artifact[Dataset]) -> None:
    """What was encoded for the data serves, and what reads labels does not."""
    assert isinstance(judged[1], ClickJudged)
    for part in ("products", "queries/train"):
        own, theirs = view.only(shop, part), view.only(judged[1], part)
        assert own.artifact_fingerprint == theirs.artifact_fingerprint
    own, theirs = view.learning(shop), view.learning(judged[1])
    assert own.artifact_fingerprint != theirs.artifact_fingerprint


def test_peoples_dev_labels_may_select(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    source = Naive(logs=LOGS, gain=GAIN, select="labels").judged(shop)
    dev = shop_runtime.get(view.learning(source)).judgments("dev")
    people = GAIN.graded(shop_runtime.get(shop).judgments("dev"))
    assert CLICK_GAIN.graded(dev)["gain"].to_numpy() == pytest.approx(
        people["gain"].to_numpy() / 3, abs=1e-4
    )


def test_labels_are_as_without(shop: Artifact[Dataset]) -> None:
    for implicit in (None, Labels()):
        recipe = LambdaMART(gain=GAIN, implicit=implicit)
        assert taught(recipe, shop) == (recipe, shop)


def test_lambdamart_learns_from_clicks_alone(
    shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    pytest.importorskip("lightgbm")
    kinds = {
        "people": LambdaMART(gain=GAIN, trees=20, min_data=5),
        "clicks": LambdaMART(
            gain=GAIN, trees=20, min_data=5, implicit=ModelAttraction(logs=LOGS, gain=GAIN)
        ),
    }
    trained = {
        name: one.trained(shop, NoProcessing(), BM25(engine="bm25s")) for name, one in kinds.items()
    }
    prints = {one.artifact_fingerprint for one in trained.values()}
    assert len(prints) == 2
    facts = shop_runtime.store.manifest(trained["clicks"])
    shop_runtime.get(trained["clicks"])
    facts = shop_runtime.store.manifest(trained["clicks"])
    assert facts is not None and facts["details"]["trees"] > 0
    assert "attraction" in kinds["clicks"].label()


def test_a_biencoder_learns_from_clicks(
    shop: Artifact[Dataset], shop_runtime: Runtime, tiny_model: str
) -> None:
    recipe = BiEncoder(
        gain=GAIN,
        model=tiny_model,
        batch_size=16,
        positive_share=0.5,
        negatives=SkipAbove(),
        implicit=IPS(logs=LOGS, gain=GAIN, purchase=3.0, dwell=30.0),
    )
    trained = recipe.trained(shop)
    assert trained.context.gain == CLICK_GAIN  # type: ignore[attr-defined]
    found = shop_runtime.get(trained.negatives[0])  # type: ignore[attr-defined]
    assert isinstance(found, NegativeLists) and len(found.rows)


def test_skipped_products_by_hand(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    """Unclicked, above a click in the same list, and never clicked for the query."""
    context = TrainingContext(shop, NoProcessing(), GAIN, 0.66)
    data = shop_runtime.get(shop)
    events = data.behaviour
    assert events is not None
    wanted = set()
    for _, session in events.filter(pl.col("position").is_not_null()).group_by("session"):
        clicks = session.filter(pl.col("event") == "click")
        for row in session.filter(pl.col("event") == "impression").iter_rows(named=True):
            lower = clicks.filter(pl.col("position") > row["position"]).height
            if lower and row["product_id"] not in clicks["product_id"].to_list():
                wanted.add((row["query_id"], row["product_id"]))
    clicked = events.filter(pl.col("event") != "impression", pl.col("query_id").is_not_null())
    wanted -= set(clicked.select("query_id", "product_id").iter_rows())
    lists = shop_runtime.get(SkipAbove().lists(context)[0][1])
    queries, products = data.queries("train").ids, data.catalogue.ids
    got = {
        (queries[number], products[int(row)])
        for number in range(len(queries))
        for row in lists.rows[lists.indptr[number] : lists.indptr[number + 1]]
    }
    assert got == wanted and got
    everything = shop_runtime.get(SkipAbove(above=False).lists(context)[0][1])
    assert len(everything.rows) > len(lists.rows)


def test_doubly_robust_is_policy_aware_for_what_was_seen() -> None:
    """Without a prior the correction takes the whole prediction back; unseen pairs keep it."""
    clicks = np.array([[True, False, True], [False, True, False]])
    whole = logged(clicks).with_unseen(
        pl.DataFrame({"query_id": ["q", "q", "z"], "product_id": ["d", "a", "e"]})
    )
    assert whole.pairs["product_id"].to_list() == ["a", "b", "c", "d"]

    def more() -> tuple[np.ndarray, np.ndarray]:
        return np.array([[1.0], [0.0], [0.5], [0.7]]), np.array([0, 1, 2, 3])

    found = made(DoublyRobust).relevance(whole, THETA, more)
    plain = made(PolicyAware).relevance(logged(clicks), THETA, features)
    assert found[:3] == pytest.approx(plain) and 0 < found[3] < 1
    pulled = made(DoublyRobust, prior=5.0).relevance(whole, THETA, more)
    assert not np.allclose(pulled[:3], plain)
