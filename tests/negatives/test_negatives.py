"""Negatives: what is refused and why, and the false-negative mask of a batch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.biencoder.pairs import PairBatches, TrainingPairs
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import LabelGain
from neurosearch.negatives.base import NegativeLists, TrainingContext, graded_pairs
from neurosearch.negatives.judged import Judged
from neurosearch.negatives.mixed import Mixed
from neurosearch.negatives.retrieved import Retrieved, select
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
GRADED = pl.DataFrame({"query": [0, 0, 1], "row": [1, 2, 1], "share": [1.0, 0.0, 1.0]})
TITLES = ["a", "Red Mug", "b", "red  mug!", "c"]


def context(shop) -> TrainingContext:
    return TrainingContext(shop, NoProcessing(), GAIN, 0.66)


def test_candidates_that_people_judged_relevant_are_refused() -> None:
    candidates = pl.DataFrame(
        {"query": [0, 0, 0], "row": [1, 2, 3], "score": [0.9, 0.8, 0.7], "rank": [1, 2, 3]}
    )
    limits = SimpleNamespace(refuse_share=0.34, max_ratio=None, margin=None)
    kept, refused = select(candidates, GRADED, None, limits)
    assert kept["row"].to_list() == [2, 3]
    assert refused == {"judged relevant": 1}


@pytest.mark.parametrize(
    "max_ratio, margin, rows", [(0.95, None, [4]), (None, 0.05, [3, 4]), (0.95, 0.3, [])]
)
def test_the_positive_aware_filter(max_ratio, margin, rows: list[int]) -> None:
    """The positive scores .6: .95 of it is .57, .05 below it .55."""
    candidates = pl.DataFrame(
        {"query": [0] * 3, "row": [2, 3, 4], "score": [0.58, 0.549, 0.5], "rank": [1, 2, 3]}
    )
    if max_ratio and not margin:
        candidates = candidates.with_columns(pl.Series("score", [0.58, 0.571, 0.5]))
    positives = pl.DataFrame({"query": [0], "row": [1], "score": [0.6]})
    limits = SimpleNamespace(refuse_share=0.34, max_ratio=max_ratio, margin=margin)
    kept, refused = select(candidates, GRADED, positives, limits)
    assert kept["row"].to_list() == rows
    assert refused["too close to the positives"] == 3 - len(rows)


def test_lists_of_every_source_hold_no_positive(shop_runtime: Runtime, shop) -> None:
    data = shop_runtime.get(shop)
    graded = graded_pairs(data, data.judgments("train"), GAIN)
    good = set(graded.filter(pl.col("share") >= 0.34).select("query", "row").iter_rows())
    dense = Dense(encoder=Hashing(dimensions=64))
    sources = Mixed(
        parts={
            "judged": Judged(per_query=2),
            "bm25": Retrieved(retriever=BM25(engine="bm25s"), last=20),
            "mined": Retrieved(retriever=dense, last=20, max_ratio=0.95),
        }
    )
    found = sources.lists(context(shop))
    assert [count for count, _ in found] == [2, 1, 1]
    assert len(sources.sources()) == 3
    for _, artifact in found:
        lists = shop_runtime.get(artifact)
        pairs = {
            (query, row)
            for query in range(len(lists.indptr) - 1)
            for row in lists.rows[lists.indptr[query] : lists.indptr[query + 1]]
        }
        assert pairs and not pairs & good
        manifest = shop_runtime.store.manifest(artifact)
        assert manifest["details"]["kept"] == len(pairs)
        assert all(count >= 0 for count in manifest["details"]["refused"].values())


def test_judged_negatives_stay_below_their_share(shop_runtime: Runtime, shop) -> None:
    data = shop_runtime.get(shop)
    graded = graded_pairs(data, data.judgments("train"), GAIN)
    for share in (0.005, 0.34, 1.0):
        ((_, artifact),) = Judged(max_share=share).lists(context(shop))
        kept = shop_runtime.store.ensure(artifact) and shop_runtime.get(artifact)
        assert len(kept.rows) == graded.filter(pl.col("share") <= share).height


@given(
    st.lists(st.lists(st.integers(0, 50), max_size=5), min_size=1, max_size=8), st.integers(1, 4)
)
def test_draws_come_from_the_query_s_own_list(lists: list[list[int]], count: int) -> None:
    query = np.repeat(np.arange(len(lists)), [len(x) for x in lists])
    held = NegativeLists.of(
        query, np.array([r for x in lists for r in x], dtype=np.int64), len(lists)
    )
    drawn = held.draw(np.arange(len(lists)), count, np.random.default_rng(0))
    assert drawn.shape == (len(lists), count)
    for mine, rows in zip(lists, drawn, strict=True):
        assert set(rows.tolist()) <= (set(mine) or {-1})


def pairs() -> TrainingPairs:
    return TrainingPairs.of(GRADED, TITLES, ["mug", "Mug "], 0.66)


def test_the_mask_refuses_every_kind_of_false_negative() -> None:
    # Queries 0 and 1 have the same text and the same positive, row 1; row 3 has its title.
    targets = pairs().targets(np.array([0, 1]), np.array([1, 1, 3, 2, 4]), mask=True)
    assert targets.positive.tolist() == [[True, True, False, False, False]] * 2
    assert targets.refused.tolist() == [[False, False, True, False, False]] * 2
    assert targets.gain[0, 2].isnan() and targets.gain[0, 3] == 0
    bare = pairs().targets(np.array([0, 1]), np.array([1, 1, 3]), mask=False)
    assert bare.positive.tolist() == [[True, False, False], [False, True, False]]
    assert not bare.refused.any()


def test_batches_are_a_function_of_seed_and_step() -> None:
    lists = NegativeLists.of(np.array([0, 0, 1]), np.array([2, 4, 0]), 2)
    one, two = (PairBatches(pairs(), [(2, lists)], 2, 9, 7) for _ in range(2))
    for step in (5, 0, 3):
        assert all(map(np.array_equal, one.draw(step), two.draw(step)))
    other = PairBatches(pairs(), [(2, lists)], 2, 9, 8)
    assert any(not np.array_equal(one.draw(s)[1], other.draw(s)[1]) for s in range(9))


def test_teacher_scores_are_looked_up() -> None:
    teacher = pl.DataFrame({"query": [0, 1], "row": [2, 4], "score": [3.5, -1.0]})
    taught = TrainingPairs.of(GRADED, TITLES, ["a", "b"], 0.66, teacher)
    scores = taught.targets(np.array([0, 1]), np.array([1, 1, 2, 4]), mask=True).teacher
    assert scores is not None and scores[0, 3].isnan()
    assert scores[0, 2] == 3.5 and scores[1, 3] == -1.0


def test_nothing_to_learn_from_and_wrong_ranks_are_refused() -> None:
    with pytest.raises(InputError, match=r"positive_share: no train judgment is worth"):
        TrainingPairs.of(GRADED.with_columns(share=0.1), TITLES, ["a", "b"], 0.66)
    with pytest.raises(InputError, match="1 <= first <= last"):
        Retrieved(retriever=BM25(), first=5, last=2)
    with pytest.raises(InputError, match=r"parts is empty"):
        Mixed()
