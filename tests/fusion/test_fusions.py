"""Fusion: the written formulas, on lists with gaps, ties and empty members."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.types import Judgments, Queries
from neurosearch.evaluation.gain import NumericGain
from neurosearch.fusion.base import DevSet, Fusion
from neurosearch.fusion.combmnz import CombMNZ
from neurosearch.fusion.combsum import CombSUM
from neurosearch.fusion.convex import Convex, simplex
from neurosearch.fusion.rrf import RRF

Lists = dict[str, dict[str, float]]


def queries_of(split: str = "test") -> Queries:
    return Queries(split, pl.DataFrame({"query_id": ["q0", "q1"], "text": ["a", "b"]}))


def run_of(lists: Lists, split: str = "test", floor: float | None = 0.0) -> Run:
    rows = [(q, d, s) for q, scores in lists.items() for d, s in scores.items()]
    schema = {"query_id": pl.String, "product_id": pl.String, "score": pl.Float64}
    return Run.from_frame(pl.DataFrame(rows, schema, orient="row"), queries_of(split), floor=floor)


def scores_of(run: Run) -> Lists:
    found: Lists = defaultdict(dict)
    for query, product, score in run.frame.select("query_id", "product_id", "score").iter_rows():
        found[query][product] = score
    return dict(found)


def min_max(scores: dict[str, float]) -> dict[str, float]:
    low, high = min(scores.values()), max(scores.values())
    return {d: (s - low) / max(high - low, 1e-9) for d, s in scores.items()}


def theoretical(scores: dict[str, float], floor: float = 0.0) -> dict[str, float]:
    high = max(scores.values())
    return {d: (s - floor) / (high - floor) if high > floor else 0.0 for d, s in scores.items()}


def ranks(scores: dict[str, float]) -> dict[str, int]:
    ordered = sorted(scores, key=lambda d: (scores[d], d), reverse=True)
    return {d: n for n, d in enumerate(ordered, 1)}


def expected(name: str, a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    both = set(a) | set(b)
    if name == "rrf":
        ra, rb = ranks(a), ranks(b)
        return {d: sum(1 / (60 + r[d]) for r in (ra, rb) if d in r) for d in both}
    if name == "weighted rrf":
        ra, rb = ranks(a), ranks(b)
        return {d: sum(w / (10 + r[d]) for w, r in ((2, ra), (0.5, rb)) if d in r) for d in both}
    if name == "convex":
        na, nb = theoretical(a) if a else {}, theoretical(b) if b else {}
        return {d: 0.3 * na.get(d, 0) + 0.7 * nb.get(d, 0) for d in both}
    na, nb = min_max(a) if a else {}, min_max(b) if b else {}
    total = {d: na.get(d, 0) + nb.get(d, 0) for d in both}
    if name == "combsum":
        return total
    return {d: s * ((d in a) + (d in b)) for d, s in total.items()}


FUSIONS: dict[str, Fusion] = {
    "rrf": RRF(),
    "weighted rrf": RRF(k=10, weights={"sparse": 2.0, "dense": 0.5}),
    "convex": Convex(weights={"sparse": 0.3, "dense": 0.7}, norm="theoretical"),
    "combsum": CombSUM(),
    "combmnz": CombMNZ(),
}
lists = st.dictionaries(
    st.integers(0, 12).map(lambda n: f"p{n}"),
    st.integers(0, 20).map(lambda n: n / 4),
    max_size=8,
)


@pytest.mark.parametrize("name", list(FUSIONS))
@settings(max_examples=25, deadline=None)
@given(a=lists, b=lists, c=lists, d=lists)
def test_equal_to_the_formula(name: str, a, b, c, d) -> None:
    runs = {"sparse": run_of({"q0": a, "q1": c}), "dense": run_of({"q0": b, "q1": d})}
    got = scores_of(FUSIONS[name].fuse(runs, queries_of()))
    for query, (left, right) in {"q0": (a, b), "q1": (c, d)}.items():
        assert got.get(query, {}) == pytest.approx(expected(name, left, right), rel=1e-5, abs=1e-9)


def test_rrf_by_hand() -> None:
    runs = {"x": run_of({"q0": {"a": 9, "b": 8}}), "y": run_of({"q0": {"b": 0.2, "c": 0.1}})}
    got = scores_of(RRF(k=60).fuse(runs, queries_of()))["q0"]
    assert got == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62}, rel=1e-6)


NORMS, METHODS = ("min-max", "max", "sum", "zmuv", "rank"), ("sum", "mnz")


def drawn() -> list[Lists]:
    rng = np.random.default_rng(0)
    names = [f"p{n:02d}" for n in range(40)]
    return [
        {
            q: dict(zip(rng.permutation(names)[:25], rng.random(25) + 0.1, strict=True))
            for q in ("q0", "q1")
        }
        for _ in range(2)
    ]


def drawn_of_all() -> list[Lists]:
    """Lists that hold the same products."""
    rng = np.random.default_rng(1)
    return [
        {q: {f"p{n}": float(s) for n, s in enumerate(rng.random(20))} for q in ("q0", "q1")}
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def of_ranx() -> dict[str, Lists]:
    """What ranx makes of both, by method and norm. It compiles for half a minute, unless told not
    to before it is imported."""
    code = """if True:
        import json, sys
        import ranx
        drawn, same, norms, methods = json.load(sys.stdin)
        told = {}
        for method in methods:
            for norm in norms:
                runs = [ranx.Run(lists) for lists in drawn]
                told[f"{method} {norm}"] = ranx.fuse(runs, norm=norm, method=method).to_dict()
        runs = [ranx.Run(lists) for lists in same]
        told["rrf"] = ranx.fuse(runs, norm=None, method="rrf", params={"k": 7}).to_dict()
        json.dump(told, sys.stdout, default=float)"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=json.dumps([drawn(), drawn_of_all(), NORMS, METHODS]),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )
    told: dict[str, Lists] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", METHODS)
def test_equal_to_ranx(norm: str, method: str, of_ranx: dict[str, Lists]) -> None:
    """On lists whose fused scores are never 0, where ranx is sound."""
    fusion = (CombSUM if method == "sum" else CombMNZ)(norm=norm)
    first, second = drawn()
    got = scores_of(fusion.fuse({"x": run_of(first), "y": run_of(second)}, queries_of()))
    theirs = of_ranx[f"{method} {norm}"]
    assert len(theirs) == 2
    for query, scores in theirs.items():
        assert got[query] == pytest.approx(scores, rel=1e-5, abs=1e-9)


def test_rrf_is_ranx_s(of_ranx: dict[str, Lists]) -> None:
    first, second = drawn_of_all()
    got = scores_of(RRF(k=7).fuse({"x": run_of(first), "y": run_of(second)}, queries_of()))
    assert len(of_ranx["rrf"]) == 2
    for query, scores in of_ranx["rrf"].items():
        assert got[query] == pytest.approx(scores)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_members_of_another_split_are_refused(name: str) -> None:
    runs = {"sparse": run_of({"q0": {"a": 1}}), "dense": run_of({"q0": {"a": 1}}, "dev")}
    with pytest.raises(InputError, match="member 'dense' is a run of dev, not of test"):
        FUSIONS[name].fuse(runs, queries_of())


def dev_set(split: str = "dev") -> DevSet:
    """Dense is right about both queries, sparse is wrong."""
    runs = {
        "sparse": run_of({"q0": {"bad": 3, "good": 1}, "q1": {"bad": 3, "good": 1}}, split),
        "dense": run_of({"q0": {"good": 0.9, "bad": 0.1}, "q1": {"good": 0.9}}, split),
    }
    frame = pl.DataFrame(
        {"query_id": ["q0", "q1"], "product_id": ["good", "good"], "label": ["1", "1"]}
    )
    return DevSet(runs, queries_of(split), Judgments(split, frame), NumericGain("graded"))


def test_convex_learns_the_weights_on_dev() -> None:
    learnt = Convex(step=0.25, norm="min-max").fit(dev_set())
    assert learnt["dev nDCG@10"] == pytest.approx(1.0)
    assert learnt["weights"]["dense"] >= 0.5
    tried = {tuple(point): score for _, point, score in learnt["tried"]}
    assert len(tried) == 5
    assert tried[1.0, 0.0] < tried[0.0, 1.0] == 1.0


def test_convex_chooses_its_normalisation_too() -> None:
    learnt = Convex(step=0.5).fit(dev_set())
    assert {norm for norm, _, _ in learnt["tried"]} == {"theoretical", "min-max", "zmuv"}
    assert learnt["dev nDCG@10"] == max(score for _, _, score in learnt["tried"])
    fixed = Convex(weights={"sparse": 0.5, "dense": 0.5})
    assert fixed.learns and len(fixed.fit(dev_set())["tried"]) == 3
    assert not Convex(weights={"sparse": 0.5, "dense": 0.5}, norm="zmuv").learns


@pytest.mark.parametrize("split", ["train", "test"])
def test_learning_from_another_split_is_refused(split: str) -> None:
    with pytest.raises(InputError, match="dev split only"):
        dev_set(split)


def test_convex_that_has_not_learnt_refuses() -> None:
    runs = {"sparse": run_of({"q0": {"a": 1}}), "dense": run_of({"q0": {"a": 1}})}
    with pytest.raises(InputError, match="has not learnt its weights"):
        Convex().fuse(runs, queries_of())


def test_unknown_floors_and_weights_are_named() -> None:
    runs = {"sparse": run_of({"q0": {"a": 1}}), "dense": run_of({"q0": {"a": 1}}, floor=None)}
    with pytest.raises(InputError, match="member 'dense' have no known floor"):
        Convex(weights={"sparse": 0.5, "dense": 0.5}, norm="theoretical").fuse(runs, queries_of())
    with pytest.raises(InputError, match=r"the members are \['dense', 'sparse'\]"):
        RRF(weights={"bm25": 1.0, "dense": 1.0}).fuse(runs, queries_of())
    with pytest.raises(InputError, match=r"norm must be one of"):
        Convex(norm="minmax")
    with pytest.raises(InputError, match="sum to one"):
        Convex(weights={"a": 0.5, "b": 0.6})


@given(st.integers(2, 4), st.sampled_from([0.5, 0.25, 0.2, 0.1]))
def test_the_simplex_is_complete(members: int, step: float) -> None:
    points = simplex(members, step)
    units = round(1 / step)
    from math import comb

    assert len(set(points)) == len(points) == comb(units + members - 1, members - 1)
    assert np.allclose([sum(point) for point in points], 1)
