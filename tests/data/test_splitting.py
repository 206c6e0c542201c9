"""Splits and folds: deterministic, balanced, and equal query texts never apart."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.data.splitting import check_splits, deal, resplit


def data_of(texts: list[str], labels: list[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    ids = [f"q{number}" for number in range(len(texts))]
    queries = pl.DataFrame({"query_id": ids, "text": texts})
    return queries, pl.DataFrame({"query_id": ids, "label": labels})


def test_groups_go_where_most_is_missing() -> None:
    # Shares .6, .2, .2 of totals 1 to 5: lacking is share · total - count, first of equals.
    assert deal([1, 1, 1, 1, 1], [0.6, 0.2, 0.2]) == [0, 1, 0, 2, 0]
    assert deal([3, 1, 1], [0.5, 0.5]) == [0, 1, 1]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.sampled_from("EI")),
        min_size=30,
        max_size=120,
    ),
    st.integers(3, 6),
)
def test_equal_texts_stay_together_and_every_query_is_tested_once(pairs, folds: int) -> None:
    texts = [
        f" {letter.upper()}  word" if n % 2 else f"{letter} word"
        for n, (letter, _) in enumerate(pairs)
    ]
    if len({letter for letter, _ in pairs}) < folds:
        return
    queries, judgments = data_of(texts, [label for _, label in pairs])
    tested: list[str] = []
    for fold in range(folds):
        split = resplit(queries, judgments, None, folds, fold)
        assert split["query_id"].equals(queries["query_id"])
        key = split.with_columns(pl.col("text").str.to_lowercase().str.strip_chars().str.head(1))
        assert key.group_by("text").agg(pl.col("split").n_unique())["split"].max() == 1
        tested += split.filter(pl.col("split") == "test")["query_id"].to_list()
    assert sorted(tested) == sorted(queries["query_id"])


def test_labels_are_mixed_alike_and_order_does_not_matter() -> None:
    queries, judgments = data_of([f"query {n}" for n in range(100)], ["E"] * 30 + ["I"] * 70)
    shares = {"train": 0.6, "dev": 0.2, "test": 0.2}
    split = resplit(queries, judgments, shares, 0, 0)
    counts = split.join(judgments, on="query_id").group_by("split", "label").len()
    found = {(s, label): n for s, label, n in counts.iter_rows()}
    assert found == {
        ("train", "E"): 18, ("dev", "E"): 6, ("test", "E"): 6,
        ("train", "I"): 42, ("dev", "I"): 14, ("test", "I"): 14,
    }  # fmt: skip
    again = resplit(queries.reverse(), judgments.reverse(), shares, 0, 0)
    assert again.sort("query_id")["split"].equals(split.sort("query_id")["split"])


@pytest.mark.parametrize(
    "splits, folds, fold, message",
    [
        ({"train": 0.6, "valid": 0.4}, 0, 0, "'valid' is none of"),
        ({"train": 0.6, "test": 0.5}, 0, 0, "shares that add up to 1"),
        ({"train": 1.5, "test": -0.5}, 0, 0, "shares that add up to 1"),
        ({"train": 0.5, "test": 0.5}, 5, 0, "exclude one another"),
        (None, 2, 0, "at least 3"),
        (None, 5, 5, r"fold must be 0 to 4"),
        (None, 0, 1, "there are no folds"),
    ],
)
def test_what_cannot_be_is_refused(splits, folds: int, fold: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_splits(splits, folds, fold)


def test_too_few_queries_are_refused() -> None:
    queries, judgments = data_of(["a", "A "], ["E", "I"])
    with pytest.raises(InputError, match="1 different queries leave none for dev"):
        resplit(queries, judgments, {"train": 0.5, "dev": 0.25, "test": 0.25}, 0, 0)
