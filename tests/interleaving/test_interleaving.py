"""Interleaving: exact small cases, no bias, fidelity, and lists that hold what they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.interleaving.balanced import Balanced
from neurosearch.interleaving.base import Interleaving
from neurosearch.interleaving.optimized import Optimized
from neurosearch.interleaving.probabilistic import Probabilistic
from neurosearch.interleaving.team_draft import TeamDraft

METHODS: tuple[Interleaving, ...] = (TeamDraft(), Balanced(), Probabilistic(), Optimized())
UNBIASED = (TeamDraft(), Probabilistic(), Optimized())
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
