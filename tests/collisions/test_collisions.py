"""Collision policies keep prefixes, promise what they promise, and cost least."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from neurosearch.collisions.base import place
from neurosearch.collisions.extra import Extra
from neurosearch.collisions.keep import Keep
from neurosearch.collisions.next_best import NextBest
from neurosearch.collisions.sinkhorn import Sinkhorn, log_transport
from neurosearch.core.semantic_ids import SemanticIds

K = 6


def random_ids(seed: int, count: int) -> tuple[SemanticIds, np.ndarray]:
    """IDs with nearest last codes, no prefix with more than K products, and all costs."""
    rng = np.random.default_rng(seed)
    prefix = rng.permutation(np.repeat(np.arange(count), K))[:count]
    costs = rng.random((count, K)).astype(np.float32)
    codes = np.column_stack([prefix, costs.argmin(axis=1)]).astype(np.int32)
    return SemanticIds(codes, (count, K), 2), costs


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_policies_keep_prefixes_and_their_promise(seed: int, count: int) -> None:
    ids, costs = random_ids(seed, count)
    assert Keep().resolve(ids, None) is ids
    for policy in (Extra(), NextBest(), Sinkhorn(), NextBest(capacity=2)):
        found = policy.resolve(ids, (lambda rows: costs[rows]) if policy.moves else None)
        assert np.array_equal(found.codes[:, 0], ids.codes[:, 0])
        most = policy.capacity if isinstance(policy, NextBest) else 1
        assert np.bincount(found.keys()).max() <= most
        assert (found.codes < np.array(found.sizes)).all() and (found.codes >= 0).all()
        alone = np.bincount(ids.keys(1))[ids.keys(1)] == 1
        assert np.array_equal(found.codes[alone, 1], ids.codes[alone, 1])


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_next_best_is_stable(seed: int, rows: int) -> None:
    """Nobody would rather have a code that is free, or held at a higher price by its holder."""
    costs = np.random.default_rng(seed).random((rows, K)).astype(np.float32)
    placed = place(np.zeros(rows, dtype=np.int64), costs, 1)
    assert len(set(placed.tolist())) == rows
    free = set(range(K)) - set(placed.tolist())
    for row in range(rows):
        assert all(costs[row, placed[row]] <= costs[row, other] for other in free)
    # No cheaper than the best assignment there is, and not far from it.
    best = costs[linear_sum_assignment(costs)].sum()
    assert best - 1e-5 <= costs[np.arange(rows), placed].sum() <= best + rows


def test_who_finds_no_room_is_told() -> None:
    placed = place(np.zeros(5, dtype=np.int64), np.zeros((5, 3), dtype=np.float32), 1)
    assert sorted(placed.tolist()) == [-1, -1, 0, 1, 2]


def test_the_extra_code_is_the_place_in_the_bucket() -> None:
    ids = SemanticIds(np.array([[1, 2], [0, 0], [1, 2], [1, 2]], dtype=np.int32), (2, 3), 2)
    found = Extra().resolve(ids, None)
    assert found.codes.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 1], [1, 2, 2]]
    assert found.sizes == (2, 3, 3) and found.semantic == 2


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 20))
def test_unseen_products_find_room_beside_the_catalogue(seed: int, count: int, new: int) -> None:
    ids, costs = random_ids(seed, count)
    rng = np.random.default_rng(seed + 1)
    prices = rng.random((new, K)).astype(np.float32)
    codes = np.column_stack([rng.integers(0, count, new), prices.argmin(axis=1)]).astype(np.int32)
    for policy in (Keep(), Extra(), NextBest(), Sinkhorn()):
        settled = policy.resolve(ids, (lambda rows: costs[rows]) if policy.moves else None)
        found = policy.admit(settled, codes, prices if policy.moves else None)
        assert np.array_equal(found[:, 0], codes[:, 0])
        if isinstance(policy, Keep):
            assert np.array_equal(found, codes)
            continue
        whole = np.concatenate([settled.codes, found])
        crowd = np.bincount(whole[:, 0], minlength=count) > K
        free = whole if isinstance(policy, Extra) else whole[~crowd[whole[:, 0]]]
        assert len(np.unique(free, axis=0)) == len(free)


def test_transport_has_the_marginals_and_the_limit() -> None:
    costs = np.random.default_rng(0).random((3, 4, K)).astype(np.float32)
    plan = np.exp(log_transport(costs, 0.05, 500))
    assert plan.sum(axis=2) == pytest.approx(np.ones((3, 4)), abs=1e-3)
    assert plan.sum(axis=1).max() < 1.01  # four rows do not need six columns whole
    crowd = np.random.default_rng(0).random((1, 4 * K, K)).astype(np.float32)
    full = np.exp(log_transport(crowd, 0.05, 500))
    assert full.sum(axis=1) == pytest.approx(np.full((1, K), 4), abs=1e-2)
    # A square problem with little smoothing is the assignment problem.
    square = costs[0, :, :4]
    sharp = log_transport(square[None], 0.002, 3000)[0].argmax(axis=1)
    assert sharp.tolist() == linear_sum_assignment(square)[1].tolist()


def test_sinkhorn_costs_about_what_the_best_assignment_costs() -> None:
    rng = np.random.default_rng(0)
    costs = rng.random((40, 4, 64)).astype(np.float32)
    ids = SemanticIds(
        np.column_stack([np.repeat(np.arange(40), 4), np.zeros(160)]).astype(np.int32), (40, 64), 2
    )
    flat = costs.reshape(160, 64)
    paid = {}
    for policy in (Sinkhorn(), NextBest()):
        last = policy.resolve(ids, lambda rows: flat[rows]).codes[:, 1]
        paid[type(policy).__name__] = flat[np.arange(160), last].sum()
    best = sum(group[linear_sum_assignment(group)].sum() for group in costs)
    assert best - 1e-4 <= paid["NextBest"] <= 1.1 * best
    assert best - 1e-4 <= paid["Sinkhorn"] <= 1.3 * best < 0.2 * flat.mean() * 160


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=30
    )
)
def test_keys_number_the_prefixes_in_order(rows: list[tuple[int, int, int]]) -> None:
    ids = SemanticIds(np.array(rows, dtype=np.int32), (4, 3, 5), 3)
    for levels in range(4):
        prefixes = [row[:levels] for row in rows]
        order = {prefix: number for number, prefix in enumerate(sorted(set(prefixes)))}
        assert ids.keys(levels).tolist() == [order[prefix] for prefix in prefixes]


def test_codes_past_the_sizes_are_no_other_prefix() -> None:
    codes = np.array([[0, 5], [1, 2]], dtype=np.int32)  # 0·3 + 5 = 1·3 + 2
    assert SemanticIds(codes, (2, 3), 2).keys().tolist() == [0, 1]


def test_large_ids_do_not_overflow() -> None:
    codes = np.full((2, 9), 65_535, dtype=np.int32)
    codes[1, 0] = 0
    assert SemanticIds(codes, (65_536,) * 9, 9).keys().tolist() == [1, 0]
    assert torch.iinfo(torch.int64).max < 65_536**9
