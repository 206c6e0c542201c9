"""Columns about unjudged products: trec_eval's bpref, RBP by hand, lists without holes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from neurosearch.evaluation.holes import BPREF, FILLED, RBP, RECALL, RESIDUAL, dropped, hole_metrics


def graded(rows: list[tuple[str, str, float]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, ["query_id", "product_id", "gain"], orient="row")
    return frame.with_columns(relevant=pl.col("gain") >= 1)


def ranked(lists: dict[str, list[str]]) -> pl.DataFrame:
    rows = [(q, d, n) for q, found in lists.items() for n, d in enumerate(found, 1)]
    return pl.DataFrame(rows, ["query_id", "product_id", "rank"], orient="row")


def test_bpref_is_trec_evals() -> None:
    import pytrec_eval

    rng = np.random.default_rng(1)
    lists, qrels = {}, {}
    for number in range(80):
        query = f"q{number}"
        lists[query] = [f"d{n}" for n in rng.choice(60, rng.integers(1, 50), replace=False)]
        judged = rng.choice(70, rng.integers(1, 40), replace=False)
        qrels[query] = {f"d{n}": int(rng.integers(0, 2)) for n in judged}
        if number % 10 == 0:
            qrels[query] = dict.fromkeys(qrels[query], 1)  # nothing judged bad
    frame = graded([(q, d, float(g)) for q, own in qrels.items() for d, g in own.items()])
    found = hole_metrics(ranked(lists), frame, 0.8)
    scores = {q: {d: -float(n) for n, d in enumerate(own)} for q, own in lists.items()}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"bpref"}).evaluate(scores)
    compared = 0
    for query, value in found.select("query_id", BPREF).iter_rows():
        if any(qrels[query].values()):
            assert value == pytest.approx(theirs[query]["bpref"], abs=1e-9), query
            compared += 1
        else:
            assert value is None
    assert compared > 60


def test_rbp_and_its_residual_by_hand() -> None:
    frame = graded([("q", "a", 2.0), ("q", "b", 0.0), ("q", "c", 1.0)])
    (row,) = hole_metrics(ranked({"q": ["a", "x", "c"]}), frame, 0.5).iter_rows(named=True)
    # Looks 1/2, 1/4, 1/8 at a (the best gain), x (nobody judged it), c (half of the best).
    assert row[RBP] == pytest.approx(0.5 + 0.125 * 0.5)
    assert row[RESIDUAL] == pytest.approx(0.25 + 0.125)
    assert row[RECALL] == pytest.approx(1.0)
    # The mean of the judged is 1: x is worth that, and so is all below 2 in the ideal list.
    ideal = 2 + sum(1 / np.log2(n + 1) for n in range(2, 11))
    assert row[FILLED] == pytest.approx((2 + 1 / np.log2(3) + 1 / 2) / ideal)


def test_without_holes_nothing_is_guessed() -> None:
    frame = graded([("q", d, g) for d, g in zip("abcd", (2.0, 0.0, 1.0, 1.0), strict=True)])
    (row,) = hole_metrics(ranked({"q": list("badc")}), frame, 0.8).iter_rows(named=True)
    assert row[RESIDUAL] == pytest.approx(0.8**4)  # the tail alone
    dcg = sum(g / np.log2(n + 2) for n, g in enumerate((0, 2, 1, 1)))
    ideal = 2 + sum(1 / np.log2(n + 2) for n in range(1, 10))  # the mean is 1
    assert row[FILLED] == pytest.approx(dcg / ideal)


def test_dropped_judgments_are_a_share() -> None:
    frame = pl.DataFrame({"query_id": ["q"] * 1000, "product_id": [str(n) for n in range(1000)]})
    left = dropped(frame, 0.3, np.random.default_rng(0))
    assert 650 < left.height < 750 and set(left.rows()) < set(frame.rows())
