"""Weights by query: planted signals are found, and nothing is done where there are none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.run import Run
from neurosearch.core.types import Dataset, Judgments, Queries
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import NumericGain
from neurosearch.evaluation.metrics import per_query
from neurosearch.fusion.base import DevSet, HeldSet
from neurosearch.fusion.convex import Convex, scale
from neurosearch.fusion.per_query import (
    PerQuery,
    chances,
    described,
    halves,
    moved,
    policies,
    standard,
)
from neurosearch.fusion.tuning import Pooled
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.hybrid import Hybrid

GAIN = NumericGain("graded")
RECIPE = PerQuery(norm="min-max", step=0.25, moves=(0.5, 1.0), steps=120)


def lists(split: str, seed: int, told: bool = True) -> DevSet:
    """Two members, one of which ranks the relevant product first; it scores higher if `told`."""
    rng = np.random.default_rng(seed)
    ids = [f"{split}{n}" for n in range(120)]
    queries = Queries(split, pl.DataFrame({"query_id": ids, "text": ids}))
    rows: dict[str, list[tuple[str, str, float]]] = {"one": [], "two": []}
    judged = []
    for query in ids:
        good = rng.random() < 0.5
        judged.append((query, "d00", "1"))
        for name, is_right in (("one", good), ("two", not good)):
            order = [int(n) for n in rng.permutation(np.arange(1, 15))]
            order.insert(0 if is_right else 12, 0)
            top = 10.0 if is_right and told else 1.0
            scores = top * np.linspace(1, 0.1, len(order))
            rows[name] += [
                (query, f"d{n:02}", float(s)) for n, s in zip(order, scores, strict=True)
            ]
    runs = {
        name: Run.from_frame(
            pl.DataFrame(found, ["query_id", "product_id", "score"], orient="row"), queries
        )
        for name, found in rows.items()
    }
    labels = pl.DataFrame(judged, ["query_id", "product_id", "label"], orient="row")
    kind = DevSet if split == "dev" else HeldSet
    return kind(runs, queries, Judgments(split, labels), GAIN)


def test_the_member_that_is_right_gets_the_weight() -> None:
    learnt = RECIPE.fit(lists("dev", 0), [lists("train", 1), lists("train", 2)])
    learnt = json.loads(json.dumps(learnt))
    common = Convex(norm="min-max", step=0.25).fit(lists("dev", 0))
    assert learnt["dev nDCG@10 of common weights"] == pytest.approx(common["dev nDCG@10"])
    assert learnt["dev nDCG@10"] > common["dev nDCG@10"] + 0.1
    assert learnt["dev nDCG@10"] <= learnt["dev nDCG@10 of the best weighting of each query"] + 1e-9
    fresh = lists("dev", 9)
    fused = RECIPE.fuse(fresh.runs, fresh.queries, learnt)
    found = per_query(fused, fresh.queries, fresh.judgments, GAIN, ("nDCG@10",))["nDCG@10"]
    plain = Convex(weights=learnt["weights"], norm="min-max").fuse(fresh.runs, fresh.queries)
    other = per_query(plain, fresh.queries, fresh.judgments, GAIN, ("nDCG@10",))["nDCG@10"]
    assert found.mean() > other.mean() + 0.1
    swapped = {name: fresh.runs[name] for name in ("two", "one")}
    again = RECIPE.fuse(swapped, fresh.queries, learnt)
    assert_frame_equal(again.frame, fused.frame)


def test_the_best_state_on_dev_is_kept_whenever_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = RECIPE.fit(lists("dev", 0), [lists("train", 1)])
    backwards = lambda *parts: policies(*parts)[::-1]  # noqa: E731
    monkeypatch.setattr("neurosearch.fusion.per_query.policies", backwards)
    again = RECIPE.fit(lists("dev", 0), [lists("train", 1)])
    assert again["dev nDCG@10"] == usual["dev nDCG@10"]
    early = policies(RECIPE, *trained_on(lists("train", 1)))[0]
    assert not np.array_equal(again["layers"][0], early[0].tolist())  # the last one that was tried


def trained_on(held: DevSet) -> tuple[np.ndarray, np.ndarray]:
    """What the policies of the test above are trained on."""
    inputs = described(held.runs, held.queries.ids)
    spread = inputs.std(axis=0)
    spread[spread < 1e-9] = 1.0
    learnt = RECIPE.fit(lists("dev", 0), [held])
    common = np.array([learnt["weights"][name] for name in held.runs])
    pooled = Pooled.of(scale(held.runs, "min-max"), held)
    gains = np.stack([pooled.each(w) for w in moved(common, RECIPE.moves)], axis=1)
    return standard(inputs, inputs.mean(axis=0), spread), gains


def test_common_weights_stay_where_lists_say_nothing() -> None:
    learnt = RECIPE.fit(lists("dev", 0, False), [lists("train", 1, False)])
    fixed = learnt["dev nDCG@10 of common weights"]
    assert fixed <= learnt["dev nDCG@10"] < fixed + 0.03
    fresh = lists("dev", 9, False)
    same = RECIPE.fuse(fresh.runs, fresh.queries, {**learnt, "share": 0.0})
    plain = Convex(weights=learnt["weights"], norm="min-max").fuse(fresh.runs, fresh.queries)
    assert_frame_equal(same.frame, plain.frame)


def test_each_query_is_measured_as_in_tables() -> None:
    dev = lists("dev", 3)
    pooled = Pooled.of(scale(dev.runs, "min-max"), dev)
    weights = np.random.default_rng(0).dirichlet([1, 1], len(dev.queries))
    parts = []
    for number, query in enumerate(dev.queries.ids):
        only = pl.col("query_id") == query
        runs = {n: replace(run, frame=run.frame.filter(only)) for n, run in dev.runs.items()}
        own = dict(zip(runs, weights[number].tolist(), strict=True))
        fused = Convex(weights=own, norm="min-max").fuse(runs, dev.queries)
        metrics = per_query(fused, dev.queries, dev.judgments, GAIN, ("nDCG@10",))
        parts.append(metrics.filter(only)["nDCG@10"][0])
    np.testing.assert_allclose(pooled.each(weights), parts, atol=1e-6)
    shared = pooled.each(np.array([0.4, 0.6]))
    assert shared.mean() == pytest.approx(pooled.ndcg((0.4, 0.6)))


def test_without_folds_half_of_dev_is_learnt_from() -> None:
    dev = lists("dev", 0)
    one, other = halves(dev)
    assert sorted([*one.queries.ids, *other.queries.ids]) == sorted(dev.queries.ids)
    learnt = replace(RECIPE, folds=0).fit(dev)
    # By hand: the same with the second half as if it were held out.
    common = Convex(norm="min-max", step=0.25).fit(dev)["weights"]
    assert learnt["weights"] == common
    fixed = Pooled.of(scale(one.runs, "min-max"), one).each(np.array(list(common.values())))
    assert learnt["dev nDCG@10 of common weights"] == pytest.approx(fixed.mean())
    assert learnt["dev nDCG@10"] > fixed.mean() + 0.1


def test_weightings_and_chances_by_hand() -> None:
    found = moved(np.array([0.5, 0.5]), (0.2,))
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.6, 0.4], [0.4, 0.6]])
    layers = [np.array([[1.0]]), np.array([0.0]), np.array([[0.0], [1.0]]), np.zeros(2)]
    likely = chances(np.array([[np.log(3.0)], [-5.0]]), layers)
    np.testing.assert_allclose(likely, [[0.25, 0.75], [0.5, 0.5]])


def test_lists_are_described_by_hand() -> None:
    queries = Queries("dev", pl.DataFrame({"query_id": ["a", "b"], "text": ["a", "b"]}))
    frame = pl.DataFrame({"query_id": ["a", "a"], "product_id": ["x", "y"], "score": [4.0, 3.0]})
    other = pl.DataFrame({"query_id": ["a"], "product_id": ["y"], "score": [2.0]})
    runs = {"m": Run.from_frame(frame, queries), "n": Run.from_frame(other, queries)}
    found = described(runs, queries.ids)
    np.testing.assert_allclose(found[0, :5], [4, 0.25, 0, 1, np.log(3)])
    np.testing.assert_allclose(found[0, 5:], [2, 0, 0, 0, np.log(2), 0.1])
    assert not found[1].any()


def test_no_input_is_far_from_the_mean() -> None:
    found = standard(np.array([[1e9, 0.0, 3.0]]), np.zeros(3), np.array([1.0, 1.0, 2.0]))
    np.testing.assert_allclose(found, [[5.0, 0.0, 1.5]])


def test_held_lists_are_of_the_catalogue_whatever_is_evaluated(shop: Artifact[Dataset]) -> None:
    """A fold has no judgments of the queries that it holds out, so it has no judged pool."""
    members = {"one": BM25(engine="bm25s"), "two": Dense(encoder=Hashing(dimensions=16))}
    system = Hybrid(members, replace(RECIPE, folds=2), GAIN)
    fitted = system._fitted(shop, RetrievalRequest(NoProcessing(), "test", 100, "judged"))
    assert fitted is not None and fitted.request.pool == "judged"
    assert [part.request.pool for part in fitted.folds] == ["catalogue", "catalogue"]
    assert [part.request.split for part in fitted.folds] == ["test", "test"]


def test_dev_lists_are_no_train_lists() -> None:
    dev = lists("dev", 0)
    with pytest.raises(InputError, match="train split only"):
        HeldSet(dev.runs, dev.queries, dev.judgments, GAIN)
    with pytest.raises(InputError, match="learns from train queries"):
        RECIPE.fit(dev)
    with pytest.raises(InputError, match="moves"):
        PerQuery(moves=(0.0,))
    with pytest.raises(InputError, match="folds"):
        PerQuery(folds=1)
