"""Simulated users: what they click on average is what is written in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.users.base import Users
from neurosearch.users.cascade import CascadeUsers
from neurosearch.users.mixed import MixedUsers
from neurosearch.users.pbm import PBMUsers
from neurosearch.users.ubm import UBMUsers

KINDS: tuple[Users, ...] = (PBMUsers(), CascadeUsers(), UBMUsers(), MixedUsers())
LISTS = np.array([[3, 0, 2, 3, 1, -1], [0, 0, 1, 2, 3, 3]])


@pytest.mark.parametrize("bias", [None, 0.6, 1.8])
@pytest.mark.parametrize("users", KINDS, ids=lambda one: type(one).__name__)
def test_clicks_are_as_expected(users: Users, bias: float | None) -> None:
    count = 200_000
    expected = users.expected(LISTS, None if bias is None else np.full(len(LISTS), bias))
    for grades, chances in zip(LISTS, expected, strict=True):
        ready = None if bias is None else np.full(count, bias)
        drawn = users.clicks(np.tile(grades, (count, 1)), np.random.default_rng(0), ready)
        error = 4 * np.sqrt(chances * (1 - chances) / count) + 1e-12
        assert (np.abs(drawn.mean(axis=0) - chances) <= error).all()
        assert not drawn[:, grades < 0].any()


def test_expectations_by_hand() -> None:
    pair = np.array([[3, 2]])
    assert PBMUsers(decay=1.0).expected(pair)[0].tolist() == pytest.approx([0.8, 0.15])
    stays = 0.8 * (1 - 0.9) + 0.2 * (1 - 0.1)
    assert CascadeUsers().expected(pair)[0].tolist() == pytest.approx([0.8, stays * 0.3])
    below = 0.8 * 1.0 + 0.2 * 0.5  # after a click the next rank is one below it
    assert UBMUsers(decay=1.0).expected(pair)[0].tolist() == pytest.approx([0.8, below * 0.3])


def test_readiness_scales_the_chance() -> None:
    grades = np.tile([2], (100_000, 1))
    drawn = PBMUsers().clicks(grades, np.random.default_rng(0), np.full(len(grades), 0.5))
    assert drawn.mean() == pytest.approx(0.15, abs=0.005)
    eager = PBMUsers().clicks(grades, np.random.default_rng(0), np.full(len(grades), 9.0))
    assert eager.all()


def test_bad_parameters() -> None:
    with pytest.raises(InputError, match="attraction must be chances"):
        PBMUsers(attraction=(0.1, 2.0))
    with pytest.raises(InputError, match="leaving must have 4 chances"):
        CascadeUsers(leaving=(0.1,))
