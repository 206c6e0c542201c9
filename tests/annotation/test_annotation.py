"""Judging on a budget: chances, unbiased estimates by enumeration, files, several raters, page."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.annotation.base import Annotation, Design, Pool, inclusion, systematic
from neurosearch.annotation.committee import Committee
from neurosearch.annotation.depth_pool import DepthPool
from neurosearch.annotation.disagreement import Disagreement
from neurosearch.annotation.estimate import estimates, hajek, judged, ridge
from neurosearch.annotation.files import Folder
from neurosearch.annotation.hedge import Hedge
from neurosearch.annotation.mtf import MoveToFront
from neurosearch.annotation.raters import agreement, worth
from neurosearch.annotation.service import Desk, application
from neurosearch.annotation.uncertainty import Uncertainty, expected
from neurosearch.annotation.uniform import Uniform
from neurosearch.annotation.whole_queries import WholeQueries
from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.types import Queries

QUERIES, DEPTH = 30, 5


def run_of(seed: int, noise: float) -> Run:
    """A system that finds low-numbered products first, more or less."""
    rng = np.random.default_rng(seed)
    names = [f"q{n:02d}" for n in range(QUERIES)]
    frame = pl.DataFrame(
        {
            "query_id": np.repeat(names, 12),
            "product_id": [f"p{n}" for n in range(12)] * QUERIES,
            "score": (-np.tile(np.arange(12.0), QUERIES) + rng.normal(0, noise, 12 * QUERIES)),
        }
    )
    return Run.from_frame(frame, Queries("test", pl.DataFrame({"query_id": names})))


RUNS = {"good": run_of(0, 1.0), "fair": run_of(1, 4.0), "poor": run_of(2, 20.0)}
POOL = Pool.of(RUNS, DEPTH)
PRODUCT = np.array([int(name[1:]) for name in POOL.pairs["product_id"]])
GAINS = (np.random.default_rng(5).random(len(POOL)) < 0.7 * 0.8**PRODUCT).astype(float)
DESIGNS: list[Annotation] = [
    *(Uniform(assisted=False), Uniform(), WholeQueries(), Disagreement(assisted=False)),
    *(Disagreement(), Committee(), Uncertainty(), DepthPool(), MoveToFront(), Hedge()),
]


def test_the_pool_is_the_union_of_the_first_products() -> None:
    wanted: dict[tuple[str, str], dict[str, float]] = {}
    for name, run in RUNS.items():
        for query, product, rank in run.frame.select("query_id", "product_id", "rank").iter_rows():
            if rank <= DEPTH:
                wanted.setdefault((query, product), {})[name] = 1 / np.log2(1 + rank)
    assert list(POOL.pairs.iter_rows()) == sorted(wanted)
    for number, pair in enumerate(POOL.pairs.iter_rows()):
        for system, name in enumerate(POOL.systems):
            assert POOL.weights[system, number] == pytest.approx(wanted[pair].get(name, 0.0))
    # DCG by hand, of one system.
    own = RUNS["good"].frame.filter(pl.col("rank") <= DEPTH)
    known = dict(zip(POOL.pairs.iter_rows(), GAINS, strict=True))
    total = sum(
        known[query, product] / np.log2(1 + rank)
        for query, product, rank in own.select("query_id", "product_id", "rank").iter_rows()
    )
    assert POOL.scores(GAINS)[0] == pytest.approx(total / QUERIES)


def test_one_system_or_other_queries_are_refused() -> None:
    with pytest.raises(InputError, match="two are needed"):
        Pool.of({"a": RUNS["good"]})
    fewer = Queries("test", pl.DataFrame({"query_id": ["q00"]}))
    with pytest.raises(InputError, match="other queries"):
        Pool.of({"a": RUNS["good"], "b": Run.from_frame(RUNS["fair"].frame, fewer)})


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_chances_sum_to_the_budget_and_draws_have_its_size(
    sizes: list[float], budget: int, seed: int
) -> None:
    chances = inclusion(np.array(sizes), budget)
    assert (chances > 0).all() and (chances <= 1 + 1e-12).all()
    assert chances.sum() == pytest.approx(min(budget, len(sizes)))
    below = chances < 1 - 1e-9  # those that are not certain are in proportion to their sizes
    ratio = chances[below] / np.array(sizes)[below]
    assert ratio == pytest.approx(np.full(len(ratio), ratio.mean()) if len(ratio) else [])
    chosen = systematic(chances, np.random.default_rng(seed))
    assert chosen.sum() == min(budget, len(sizes))


def test_draws_have_their_chances() -> None:
    chances = inclusion(np.array([1.0, 2.0, 3.0, 10.0]), 2)
    draws = np.array([systematic(chances, np.random.default_rng(n)) for n in range(20_000)])
    assert draws.mean(axis=0) == pytest.approx(chances, abs=0.015)


@pytest.mark.parametrize("design", DESIGNS, ids=lambda one: one.label() + str(one.is_assisted))
def test_all_labels_give_the_full_table(design: Annotation) -> None:
    plan = judged(design, POOL, GAINS, len(POOL), np.random.default_rng(0))
    assert plan.chosen.all()
    found = estimates(POOL, GAINS, plan, design.is_assisted)
    assert found.scores == pytest.approx(POOL.scores(GAINS))
    if design.unbiased:
        assert found.covariance == pytest.approx(np.zeros((3, 3)), abs=1e-15)


@pytest.mark.parametrize(
    "design", [one for one in DESIGNS if one.unbiased], ids=lambda o: o.label() + str(o.is_assisted)
)
def test_draws_are_unbiased_and_their_intervals_hold(design: Annotation) -> None:
    truth = POOL.scores(GAINS)
    gaps, errors, inside = [], [], 0
    for number in range(400):
        plan = judged(design, POOL, GAINS, 80, np.random.default_rng(number))
        found = estimates(POOL, GAINS, plan, design.is_assisted)
        gap, error = found.gap(0, 2)
        gaps.append(gap - (truth[2] - truth[0]))
        errors.append(error)
        inside += abs(gaps[-1]) <= 1.96 * error
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / 20
    assert 0.89 <= inside / 400 <= 0.985
    assert np.mean(np.square(errors)) == pytest.approx(np.var(gaps), rel=0.35)


def test_a_model_and_disagreement_save_labels() -> None:
    def error(design: Annotation) -> float:
        found = []
        for number in range(200):
            plan = judged(design, POOL, GAINS, 80, np.random.default_rng(number))
            scores = estimates(POOL, GAINS, plan, design.is_assisted).scores
            found.append(scores[0] - scores[1])
        return float(np.std(found))

    assert (
        error(Disagreement()) < error(Disagreement(assisted=False)) < error(Uniform(assisted=False))
    )


def test_the_estimate_by_enumeration() -> None:
    """Two of three pairs are judged with equal chances: the mean over the three draws is exact."""
    pairs = pl.DataFrame({"query_id": ["q"] * 3, "product_id": ["a", "b", "c"]})
    weights = np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    pool = Pool(pairs, np.zeros(3, dtype=int), weights, ("s", "t"), 1)
    gains = np.array([1.0, 0.2, 0.6])
    chances = np.full(3, 2 / 3)
    draws = [np.array(d) for d in itertools.product((False, True), repeat=3) if sum(d) == 2]
    found = [estimates(pool, gains, Design(d, chances), False) for d in draws]
    assert np.mean([one.scores for one in found], axis=0) == pytest.approx(pool.scores(gains))
    # One draw by hand: a and b are judged.
    by_hand = estimates(pool, gains, Design(np.array([True, True, False]), chances), False)
    assert by_hand.scores == pytest.approx([(1 + 0.1) * 1.5, 0.1 * 1.5])
    # Of equal chances Hájek's variance is that of simple random sampling.
    y = np.array([[1.0, 0.1]]) * 1.5
    wanted = 2 * (1 - 2 / 3) * np.var(y, ddof=1)
    assert hajek(y, chances[:2])[0, 0] == pytest.approx(wanted)


def test_what_adaptive_designs_take_first() -> None:
    first = next(DepthPool().rounds(POOL))
    assert (POOL.weights[:, first].max(axis=0) == 1).all()
    taken = next(Hedge().rounds(POOL))
    assert len(taken) == QUERIES and len(np.unique(POOL.query[taken])) == QUERIES
    rounds = MoveToFront().rounds(POOL)
    wanted = next(rounds)
    assert (POOL.weights[0, wanted] == 1).all()  # every list is equal: the first system's first
    # Nothing is relevant there: the next ones are those of another system.
    again = rounds.send(np.zeros(len(wanted)))
    assert (POOL.weights[1, again].max() == 1) and not set(again) & set(wanted)


def test_hedge_trusts_the_better_system() -> None:
    plan = judged(Hedge(), POOL, GAINS, 100, np.random.default_rng(0))
    poor_only = (POOL.weights[2] > 0) & (POOL.weights[0] == 0) & (POOL.weights[1] == 0)
    good = POOL.weights[0] > 0
    assert plan.chosen[good].mean() > plan.chosen[poor_only].mean() + 0.2


def test_ridge_without_a_penalty_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    inputs = np.hstack([np.ones((500, 1)), 100 * rng.normal(size=(500, 2))])
    weights = rng.random(500) + 0.5
    wanted = inputs @ [0.3, 0.01, -0.02] + rng.normal(0, 0.01, 500)
    root = np.sqrt(weights)[:, None]
    solved = np.linalg.lstsq(inputs * root, wanted * root[:, 0], rcond=None)[0]
    assert ridge(inputs, wanted, weights) == pytest.approx(solved, abs=1e-4)


def test_a_label_does_not_predict_itself() -> None:
    """Of a query's own labels the pair's is left out, so one label changes others alone."""
    known = np.full(len(POOL), np.nan)
    known[:60] = GAINS[:60]
    chances = np.full(len(POOL), 0.5)
    found = expected(POOL, known, chances)
    assert ((found >= 0) & (found <= 1)).all() and found.std() > 0


GRADES = ["I", "S", "E"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    one = Folder(tmp_path / "plan")
    one.opened({"seed": 0})
    one.add_tasks(
        [
            {"query_id": "q1", "product_id": f"p{n}", "query": "mug", "repeat": n == 0}
            for n in range(3)
        ]
    )
    return one


def test_the_last_word_of_a_judge_counts(folder: Folder) -> None:
    folder.add_label(("q1", "p0"), "I", "ann")
    folder.add_label(("q1", "p0"), "E", "ann")
    folder.add_label(("q1", "p1"), "S", "ann")
    folder.add_label(("q1", "p1"), None, "ann")
    found = folder.labels(GRADES)
    assert [(one.product_id, one.label) for one in found] == [("p0", "E")]
    assert len((folder.path / "labels.jsonl").read_text().splitlines()) == 4  # nothing is lost


@pytest.mark.parametrize(
    "line, message",
    [
        ({"query_id": "q9", "product_id": "p0", "label": "E", "judge": "a"}, "is no task"),
        ({"query_id": "q1", "product_id": "p0", "label": "X", "judge": "a"}, "none of I, S, E"),
        ({"query_id": "q1", "product_id": "p0", "label": "E"}, "judge is missing"),
        ({"query_id": "q1", "product_id": "p0", "label": "E", "judge": " "}, "has no name"),
        ("{", "not JSON"),
    ],
)
def test_bad_labels_are_named(folder: Folder, line: Any, message: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    (folder.path / "labels.jsonl").write_text(f"\n{text}\n")
    with pytest.raises(InputError, match=rf"labels\.jsonl:2.*{message}"):
        folder.labels(GRADES)


def test_a_folder_keeps_to_its_plan(folder: Folder) -> None:
    folder.opened({"seed": 0})
    with pytest.raises(InputError, match=r"another plan \(seed differ"):
        folder.opened({"seed": 1})


def test_kappa_by_hand(folder: Folder) -> None:
    """Both agree on two of three pairs; linear weights: 1 - (1/3) / (expected 8/9 ...)."""
    for product, first, second in (("p0", "I", "I"), ("p1", "E", "E"), ("p2", "I", "S")):
        folder.add_label(("q1", product), first, "ann")
        folder.add_label(("q1", product), second, "ben")
    labels = folder.labels(GRADES)
    (row,) = agreement(labels, GRADES)
    # Observed distance 1/3; by chance: ann I 2/3, E 1/3; ben I, S, E a third each.
    by_chance = (2 / 3) * (0 + 1 + 2) / 3 + (1 / 3) * (2 + 1 + 0) / 3
    assert row["pairs"] == 3 and row["kappa"] == pytest.approx(1 - (1 / 3) / by_chance)
    values = worth(labels, {"I": 0.0, "S": 0.5, "E": 1.0})
    assert values == {("q1", "p0"): 0.0, ("q1", "p1"): 1.0, ("q1", "p2"): 0.25}


def test_the_desk_hands_out_each_pair_once_and_repeats_twice(folder: Folder) -> None:
    desk = Desk(folder, GRADES)
    for judge in ("ann", "ben"):
        while (task := desk.next(judge)["task"]) is not None:
            desk.label((task["query_id"], task["product_id"]), "S", judge)
    said = [(one.product_id, one.judge) for one in folder.labels(GRADES)]
    assert said == [("p0", "ann"), ("p1", "ann"), ("p2", "ann"), ("p0", "ben")]
    assert desk.is_done
    assert desk.undo("ann") and not desk.is_done
    assert desk.next("ann")["task"]["product_id"] == "p2"
    assert Desk(folder, GRADES).next("ann")["done"] == 2  # another process goes on


def test_the_page(folder: Folder) -> None:
    pytest.importorskip("fastapi")
    testing = pytest.importorskip("fastapi.testclient")
    client = testing.TestClient(application(Desk(folder, GRADES)))
    page = client.get("/")
    assert (
        page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    )
    state = client.post("/next", json={"judge": "ann"}).json()
    assert state["grades"] == GRADES and state["total"] == 3
    said = {"judge": "ann", "query_id": "q1", "product_id": "p0", "label": "E"}
    assert client.post("/label", json=said).json() == {"ok": True}
    assert client.post("/label", json={**said, "label": "X"}).status_code == 422
    assert client.post("/label", json={**said, "product_id": "z"}).status_code == 422
    assert client.post("/next", json={"judge": "  "}).status_code == 422
    assert client.post("/undo", json={"judge": "ann"}).json() == {"ok": True}
    assert client.post("/undo", json={"judge": "ann"}).json() == {"ok": False}


def test_a_line_written_by_hand_is_not_glued_to(folder: Folder) -> None:
    line = {"query_id": "q1", "product_id": "p0", "label": "E", "judge": "bob"}
    (folder.path / "labels.jsonl").write_text(json.dumps(line))  # without an end
    folder.add_label(("q1", "p1"), "I", "ann")
    assert [one.judge for one in folder.labels(GRADES)] == ["bob", "ann"]


def test_steps_that_went_on_are_kept(folder: Folder) -> None:
    assert folder.steps() == []
    folder.add_step({"q1\tp0": 1.0})
    folder.add_step({"q1\tp0": 1.0, "q1\tp1": 0.0})
    assert [len(one) for one in folder.steps()] == [1, 2]
    (folder.path / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json is not JSON"):
        folder.opened({"seed": 0})
    line = {"query_id": ["x"], "product_id": "p0", "label": "E", "judge": "bob"}
    (folder.path / "labels.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError, match="must be texts"):
        folder.labels(GRADES)
