"""Metrics: equal to trec_eval's on random runs with ties, gaps and unjudged documents."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from neurosearch.core.run import Run
from neurosearch.core.types import Judgments, Queries
from neurosearch.evaluation.gain import SCALE, LabelGain, NumericGain
from neurosearch.evaluation.metrics import METRICS, per_query

NUMERIC = NumericGain("graded")


def make_queries(count: int) -> Queries:
    ids = [f"q{n}" for n in range(count)]
    return Queries("test", pl.DataFrame({"query_id": ids, "text": ids}))


def make_run(queries: Queries, lists: dict[str, dict[str, float]]) -> Run:
    rows = [(q, d, s) for q, scores in lists.items() for d, s in scores.items()]
    schema = {"query_id": pl.String, "product_id": pl.String, "score": pl.Float64}
    return Run.from_frame(pl.DataFrame(rows, schema, orient="row"), queries)


def make_judgments(lists: dict[str, dict[str, int]]) -> Judgments:
    rows = [(q, d, str(g)) for q, grades in lists.items() for d, g in grades.items()]
    return Judgments("test", pl.DataFrame(rows, ["query_id", "product_id", "label"], orient="row"))


def test_equal_to_trec_eval() -> None:
    import pytrec_eval

    rng = np.random.default_rng(0)
    queries = make_queries(60)
    run_lists: dict[str, dict[str, float]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for number, query in enumerate(queries.ids):
        documents = [f"d{n}" for n in rng.choice(300, rng.integers(1, 150), replace=False)]
        # Few distinct scores: many ties.
        run_lists[query] = {d: float(rng.integers(0, 6)) / 4 for d in documents}
        judged = [f"d{n}" for n in rng.choice(320, rng.integers(1, 60), replace=False)]
        qrels[query] = {d: int(rng.integers(0, 4)) for d in judged}
        if number % 20 == 0:
            qrels[query] = dict.fromkeys(judged, 0)  # nothing relevant
        if number % 15 == 1:
            del run_lists[query]  # nothing retrieved
    names = {
        "nDCG@10": "ndcg_cut_10",
        "nDCG": "ndcg",
        "Recall@10": "recall_10",
        "Recall@100": "recall_100",
        "MAP": "map",
        "P@10": "P_10",
        "Hits@10": "success_10",
    }
    evaluator = pytrec_eval.RelevanceEvaluator(
        qrels, {"ndcg_cut.10", "ndcg", "recall.10,100", "map", "P.10", "success.10", "recip_rank"}
    )
    expected = evaluator.evaluate(run_lists)
    run = make_run(queries, run_lists)
    got = per_query(run, queries, make_judgments(qrels), NUMERIC)
    for row in got.iter_rows(named=True):
        theirs = expected.get(row["query_id"])
        answerable = any(qrels[row["query_id"]].values())
        for ours, name in names.items():
            if answerable or "nDCG" in ours:
                assert row[ours] == pytest.approx(theirs[name] if theirs else 0.0, abs=1e-6)
            else:
                assert row[ours] is None  # trec_eval says 0 of nothing; there is no recall
        if answerable:
            first = theirs["recip_rank"] if theirs else 0.0
            assert row["MRR@10"] == pytest.approx(first if first >= 0.1 else 0.0, abs=1e-6)


def test_by_hand() -> None:
    """Run a b c d; b worth 2, d worth 1, e (missed) worth 3, a judged worthless, c unjudged."""
    queries = make_queries(1)
    run = make_run(queries, {"q0": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}})
    judgments = make_judgments({"q0": {"a": 0, "b": 2, "d": 1, "e": 3}})
    got = per_query(run, queries, judgments, NUMERIC).row(0, named=True)
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert got["nDCG@10"] == pytest.approx((2 / math.log2(3) + 1 / math.log2(5)) / ideal)
    exponential = (3 / math.log2(3) + 1 / math.log2(5)) / (7 + 3 / math.log2(3) + 1 / 2)
    assert got["nDCG@10 (exp)"] == pytest.approx(exponential)
    assert got["Recall@10"] == pytest.approx(2 / 3)
    assert got["MRR@10"] == pytest.approx(1 / 2)
    assert got["MAP"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert got["P@10"] == pytest.approx(2 / 10)
    assert got["Hits@10"] == 1
    assert got["judged@10"] == pytest.approx(3 / 10)
    # Without c, d is third.
    assert got["condensed nDCG@10"] == pytest.approx((2 / math.log2(3) + 1 / 2) / ideal)


def test_fractional_gains_survive_integer_qrels() -> None:
    """ranx' qrels are integers: ESCI's .1 and .01 must not become 0."""
    gain = LabelGain(
        "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
    )
    assert 0.01 * SCALE >= 1
    queries = make_queries(1)
    labels = pl.DataFrame(
        {"query_id": ["q0"] * 3, "product_id": ["a", "b", "c"], "label": ["S", "C", "E"]}
    )
    run = make_run(queries, {"q0": {"a": 3.0, "b": 2.0}})
    got = per_query(run, queries, Judgments("test", labels), gain).row(0, named=True)
    ideal = 1 + 0.1 / math.log2(3) + 0.01 / 2
    assert got["nDCG@10"] == pytest.approx((0.1 + 0.01 / math.log2(3)) / ideal, abs=1e-6)


def test_every_query_counts_in_order_and_metrics_can_be_chosen() -> None:
    queries = make_queries(3)
    run = make_run(queries, {"q1": {"a": 1.0}})
    judgments = make_judgments({"q0": {"a": 1}, "q1": {"a": 1}, "q2": {"a": 0}})
    got = per_query(run, queries, judgments, NUMERIC, ("nDCG@10",))
    assert got.columns == ["query_id", "nDCG@10"]
    assert got.rows() == [("q0", 0.0), ("q1", 1.0), ("q2", 0.0)]
    assert set(METRICS) == set(per_query(run, queries, judgments, NUMERIC).columns[1:])


def test_an_empty_run_scores_nothing() -> None:
    queries = make_queries(2)
    judgments = make_judgments({"q0": {"a": 1}, "q1": {"a": 1}})
    got = per_query(make_run(queries, {}), queries, judgments, NUMERIC)
    assert got.drop("query_id").sum_horizontal().to_list() == [0.0, 0.0]
