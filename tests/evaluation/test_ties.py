"""Ties: closed forms against all permutations, and against trec_eval's own order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.run import Run
from neurosearch.core.types import Judgments, Queries
from neurosearch.evaluation.gain import NumericGain
from neurosearch.evaluation.metrics import METRICS, per_query
from neurosearch.evaluation.ties import BEST, WORST, expected_per_query, tie_range

GAIN = NumericGain("graded")
QUERIES = Queries("test", pl.DataFrame({"query_id": ["q", "r"], "text": ["a", "b"]}))


def judged(lists: dict[str, dict[str, int]]) -> Judgments:
    rows = [(q, p, str(label)) for q, found in lists.items() for p, label in found.items()]
    frame = pl.DataFrame(rows, ["query_id", "product_id", "label"], orient="row")
    return Judgments("test", frame)


def run_of(lists: dict[str, list[tuple[str, float]]]) -> Run:
    rows = [(q, p, s) for q, found in lists.items() for p, s in found]
    frame = pl.DataFrame(rows, ["query_id", "product_id", "score"], orient="row")
    return Run.from_frame(frame, QUERIES)


def orders(found: list[tuple[str, float]]) -> Iterator[list[tuple[str, float]]]:
    """The list with its ties in every order, as lists without ties."""
    scores = sorted({score for _, score in found}, reverse=True)
    groups = [[p for p, score in found if score == value] for value in scores]
    for permuted in itertools.product(*(itertools.permutations(group) for group in groups)):
        flat = [p for group in permuted for p in group]
        yield [(p, float(len(flat) - place)) for place, p in enumerate(flat)]


@settings(max_examples=25, deadline=None)
@given(
    scores=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    labels=st.lists(st.sampled_from([None, 0, 1, 2]), min_size=6, max_size=6),
)
def test_the_mean_over_all_orders(scores: list[int], labels: list[int | None]) -> None:
    found = [(f"p{n}", float(score)) for n, score in enumerate(scores)]
    marks = {f"p{n}": label for n, label in enumerate(labels) if label is not None}
    # A relevant product that is not retrieved, and a list that is longer than any cut.
    judgments = judged({"q": {**marks, "elsewhere": 2}, "r": {"p0": 1}})
    long = [(f"x{n}", -1.0 - n) for n in range(8)]
    other = {"r": [("p0", 1.0)]}
    every = [
        per_query(run_of({"q": [*order, *long], **other}), QUERIES, judgments, GAIN)
        for order in orders(found)
    ]
    expected = expected_per_query(run_of({"q": [*found, *long], **other}), QUERIES, judgments, GAIN)
    for name in METRICS:
        mean = np.mean([frame[name][0] for frame in every])
        assert expected[name][0] == pytest.approx(mean, abs=1e-9), name
    ends = tie_range(run_of({"q": [*found, *long], **other}), QUERIES, judgments, GAIN)
    values = [frame["nDCG@10"][0] for frame in every]
    assert ends[WORST][0] == pytest.approx(min(values), abs=1e-9)
    assert ends[BEST][0] == pytest.approx(max(values), abs=1e-9)


def test_a_tie_across_the_cut_by_hand() -> None:
    """Twelve equal scores, three relevant: each of the first ten ranks has a quarter of one."""
    found = [(f"p{n:02d}", 1.0) for n in range(12)]
    judgments = judged({"q": {"p00": 1, "p01": 1, "p02": 1}, "r": {"p00": 1}})
    run = run_of({"q": found, "r": found})
    one = expected_per_query(run, QUERIES, judgments, GAIN).row(0, named=True)
    assert one["P@10"] == pytest.approx(0.25) and one["Recall@10"] == pytest.approx(10 / 12)
    # All three in the last two of twelve ranks is impossible: a hit is certain.
    assert one["Hits@10"] == pytest.approx(1.0)
    discounts = sum(1 / np.log2(rank + 1) for rank in range(1, 11))
    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, 4))
    assert one["nDCG@10"] == pytest.approx(discounts / 4 / ideal)
    # The query with one relevant product: it is at any rank alike.
    two = expected_per_query(run, QUERIES, judgments, GAIN).row(1, named=True)
    assert two["MRR@10"] == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 12)
    assert two["Hits@10"] == pytest.approx(10 / 12)


def test_without_ties_nothing_changes() -> None:
    found = [(f"p{n}", 9.0 - n) for n in range(9)]
    judgments = judged({"q": {"p1": 2, "p4": 1, "p7": 0}, "r": {"z": 1}})
    run = run_of({"q": found})
    plain = per_query(run, QUERIES, judgments, GAIN)
    expected = expected_per_query(run, QUERIES, judgments, GAIN)
    for name in METRICS:
        assert expected[name].to_list() == pytest.approx(plain[name].to_list()), name
    ends = tie_range(run, QUERIES, judgments, GAIN)
    assert ends[WORST].to_list() == pytest.approx(plain["nDCG@10"].to_list())


def test_scores_tie_as_float32() -> None:
    """trec_eval reads scores as float: what differs beyond that is a tie, broken by id."""
    run = run_of({"q": [("a", 1.0), ("b", 1.0 + 1e-9), ("c", 1.0 + 1e-6)]})
    assert run.frame["product_id"].to_list() == ["c", "b", "a"]
    assert run.frame["score"].to_list()[1:] == [1.0, 1.0]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1e39, None])
def test_a_score_that_is_no_number_is_refused(score: float | None) -> None:
    with pytest.raises(ValueError, match=r"query 'q': the score .* of 'a' is no number"):
        run_of({"q": [("a", score), ("b", 1.0)]})  # type: ignore[list-item]
