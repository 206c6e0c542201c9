"""Interleaving: exact small cases, no bias, fidelity, and lists that hold what they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.interleaving.balanced import Balanced
from neurosearch.interleaving.base import Interleaving
from neurosearch.interleaving.debiased_balanced import DebiasedBalanced
from neurosearch.interleaving.multileaving import Multileaving
from neurosearch.interleaving.optimized import Optimized
from neurosearch.interleaving.pairwise_multileaving import PairwiseMultileaving
from neurosearch.interleaving.probabilistic import Probabilistic
from neurosearch.interleaving.team_draft import TeamDraft
from neurosearch.interleaving.team_draft_multileaving import TeamDraftMultileaving

METHODS: tuple[Interleaving, ...] = (
    *(TeamDraft(), Balanced(), DebiasedBalanced(), Probabilistic(), Optimized()),
)
UNBIASED = (TeamDraft(), DebiasedBalanced(), Probabilistic(), Optimized())
SEVERAL: tuple[Multileaving, ...] = (TeamDraftMultileaving(), PairwiseMultileaving())
ABC, BCA = np.array([0, 1, 2]), np.array([1, 2, 0])
MANY = 60_000


def one_random_click(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    clicks = np.zeros(shape, dtype=bool)
    clicks[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = True
    return clicks


def test_abc_and_bca_exactly() -> None:
    """c alone is clicked, and the second system ranks it higher: team draft sees no difference.

    One click at random: team draft is fair, balanced interleaving prefers the second by a third.
    """
    rng = np.random.default_rng(0)
    draft = TeamDraft().mixed(ABC, BCA, MANY, rng)
    assert abs(TeamDraft().preference(draft, draft.lists == 2).mean()) < 0.02
    balanced = Balanced().mixed(ABC, BCA, MANY, rng)
    assert {tuple(one) for one in balanced.lists.tolist()} == {(0, 1, 2), (1, 0, 2)}
    assert (Balanced().preference(balanced, balanced.lists == 2) == 1).all()
    clicks = one_random_click(balanced.lists.shape, rng)
    assert Balanced().preference(balanced, clicks).mean() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("method", UNBIASED, ids=lambda one: type(one).__name__)
def test_random_clicks_prefer_nobody(method: Interleaving) -> None:
    rng = np.random.default_rng(1)
    for first, second in ((ABC, BCA), (rng.permutation(8)[:5], rng.permutation(8)[:5])):
        mixed = method.mixed(first, second, MANY, rng)
        liked = method.preference(mixed, one_random_click(mixed.lists.shape, rng))
        assert abs(liked.mean()) < 4 * liked.std() / np.sqrt(MANY) + 1e-9


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_the_better_list_wins(method: Interleaving) -> None:
    """Products 0 to 4 are relevant; the second list has them at its top."""
    rng = np.random.default_rng(2)
    worse, better = np.arange(9, -1, -1), np.arange(10)
    mixed = method.mixed(worse, better, 2_000, rng)
    clicks = (mixed.lists < 5) & (rng.random(mixed.lists.shape) < 0.5)
    assert method.preference(mixed, clicks).mean() > 0.1
    swapped = method.mixed(better, worse, 2_000, rng)
    clicks = (swapped.lists < 5) & (rng.random(swapped.lists.shape) < 0.5)
    assert method.preference(swapped, clicks).mean() < -0.1


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_equal_lists_are_ties(method: Interleaving) -> None:
    rng = np.random.default_rng(3)
    mixed = method.mixed(ABC, ABC, 20_000, rng)
    liked = method.preference(mixed, rng.random(mixed.lists.shape) < 0.4)
    assert abs(liked.mean()) < 0.02
    if not isinstance(method, TeamDraft):  # whose coins give every click to somebody
        assert (liked == 0).all()


@settings(deadline=None, max_examples=40)
@given(
    first=st.permutations(range(9)),
    second=st.permutations(range(9)),
    length=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_lists_hold_products_of_both(
    first: list[int], second: list[int], length: int, seed: int
) -> None:
    """Each shown list has distinct products of the two lists, and is full."""
    a, b = np.array(first[:length]), np.array(second[:length])
    for method in METHODS:
        mixed = method.mixed(a, b, 5, np.random.default_rng(seed))
        assert mixed.lists.shape == mixed.credits.shape == (5, length)
        for shown in mixed.lists.tolist():
            assert len(set(shown)) == length and set(shown) <= {*a.tolist(), *b.tolist()}
            if not isinstance(method, Probabilistic):
                assert shown[0] in (a[0], b[0])


def test_team_draft_gives_each_system_its_half() -> None:
    """Of six places each system fills three, with its best that were not shown yet."""
    mixed = TeamDraft().mixed(np.arange(6), np.arange(10, 16), 200, np.random.default_rng(0))
    assert (mixed.credits.sum(axis=1) == 0).all()
    for shown, credits in zip(mixed.lists.tolist(), mixed.credits.tolist(), strict=True):
        assert [p for p, c in zip(shown, credits, strict=True) if c < 0] == [0, 1, 2]
        assert [p for p, c in zip(shown, credits, strict=True) if c > 0] == [10, 11, 12]


@pytest.mark.parametrize("method", METHODS, ids=lambda one: type(one).__name__)
def test_short_and_empty_lists(method: Interleaving) -> None:
    nothing = np.full(3, -1)
    some = np.array([4, 5, -1])
    mixed = method.mixed(nothing, some, 10, np.random.default_rng(0))
    assert all(set(shown) == {4, 5, -1} for shown in mixed.lists.tolist())
    empty = method.mixed(nothing, nothing, 10, np.random.default_rng(0))
    assert (empty.lists == -1).all()
    assert (method.preference(empty, np.zeros((10, 3), dtype=bool)) == 0).all()


def test_lists_that_can_not_be_mixed() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="lists of one length"):
        TeamDraft().mixed(ABC, np.array([1, 2]), 1, rng)
    with pytest.raises(InputError, match="a product twice"):
        Balanced().mixed(ABC, np.array([1, 1, 2]), 1, rng)


def test_debiased_balanced_by_hand() -> None:
    """abc and bca: at the first two places the lists favour different systems, c counts nothing."""
    mixed = DebiasedBalanced().mixed(ABC, BCA, 200, np.random.default_rng(0))
    seen = {
        tuple(shown): tuple(credits)
        for shown, credits in zip(mixed.lists.tolist(), mixed.credits.tolist(), strict=True)
    }
    assert seen == {(0, 1, 2): (-1.0, 1.0, 0.0), (1, 0, 2): (1.0, -1.0, 0.0)}


LISTS = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [4, 5, 0, 1]])


@pytest.mark.parametrize("method", SEVERAL, ids=lambda one: type(one).__name__)
def test_several_systems_random_clicks_prefer_nobody(method: Multileaving) -> None:
    rng = np.random.default_rng(4)
    shown = method.mixed(LISTS, 20_000, rng)
    liked = method.preference(LISTS, shown, one_random_click(shown.shape[:2], rng))
    error = liked.std(axis=0) / np.sqrt(len(liked))
    assert (np.abs(liked.mean(axis=0)) < 4 * error + 1e-9).all()
    assert np.allclose(liked, -liked.transpose(0, 2, 1))


@pytest.mark.parametrize("method", SEVERAL, ids=lambda one: type(one).__name__)
def test_several_systems_the_better_list_wins(method: Multileaving) -> None:
    rng = np.random.default_rng(5)
    lists = np.stack([np.arange(7, -1, -1), np.array([7, 0, 6, 1, 5, 2, 4, 3]), np.arange(8)])
    shown = method.mixed(lists, 3_000, rng)
    clicks = (shown[:, :, 0] < 4) & (rng.random(shown.shape[:2]) < 0.6)
    mean = method.preference(lists, shown, clicks).mean(axis=0)
    assert mean[0, 1] > 0 and mean[1, 2] > 0 and mean[0, 2] > 0
    for line in shown[:50, :, 0]:
        assert len(set(line.tolist())) == 8


def test_team_draft_multileaving_of_two_is_team_draft() -> None:
    """The same lists with the same chances: abc/bca in each of its four drafts."""
    rng = np.random.default_rng(6)
    many = TeamDraftMultileaving().mixed(np.stack([ABC, BCA]), MANY // 4, rng)
    two = TeamDraft().mixed(ABC, BCA, MANY // 4, rng)

    def shares(lists: np.ndarray, teams: np.ndarray) -> dict[tuple[int, ...], float]:
        rows = np.concatenate([lists, teams], axis=1)
        kinds, counts = np.unique(rows, axis=0, return_counts=True)
        return {tuple(kind): n / len(rows) for kind, n in zip(kinds.tolist(), counts, strict=True)}

    one = shares(many[:, :, 0], many[:, :, 1])
    other = shares(two.lists, ((two.credits + 1) // 2).astype(int))
    assert one.keys() == other.keys()
    assert all(abs(one[kind] - other[kind]) < 0.03 for kind in one)


def test_pairwise_preferences_by_hand() -> None:
    """Two systems ab and ba: b clicked below a, which was not: b is for the second system.

    Both can be shown from the first place on, so the weight is 1.
    """
    lists = np.array([[0, 1], [1, 0]])
    shown = np.array([[[0, -1], [1, -1]]])
    liked = PairwiseMultileaving().preference(lists, shown, np.array([[False, True]]))
    assert liked[0].tolist() == [[0, 2], [-2, 0]]
    # abc and bca: c can be shown from the second place on; a, at the first, does not compete.
    lists = np.stack([ABC, BCA])
    shown = np.array([[[0, -1], [2, -1], [1, -1]]])
    liked = PairwiseMultileaving().preference(lists, shown, np.array([[False, True, False]]))
    assert (liked == 0).all()  # c beats b, the next one, and both systems rank b higher
    # acb: a system that ranks c above b gains; b could have been first with 1/2, and was not.
    lists = np.stack([ABC, np.array([0, 2, 1])])
    liked = PairwiseMultileaving().preference(lists, shown, np.array([[False, True, False]]))
    # Both can be shown from the second place on, where a is gone for certain: no such chance.
    assert liked[0, 0, 1] == 2


def test_one_system_is_not_multileaved() -> None:
    with pytest.raises(InputError, match="two systems or more"):
        TeamDraftMultileaving().mixed(ABC[None], 1, np.random.default_rng(0))
