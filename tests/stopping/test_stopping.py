"""Stopping rules: published constants, and the level over many looks."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.stopping.base import Stopping
from neurosearch.stopping.fixed import Fixed
from neurosearch.stopping.msprt import MSPRT
from neurosearch.stopping.obrien_fleming import OBrienFleming
from neurosearch.stopping.pocock import Pocock


def walks(looks: int, count: int = 40_000, drift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """z at each look, and the shares of the data; `drift`: of z at the end."""
    rng = np.random.default_rng(0)
    steps = rng.normal(drift / np.sqrt(looks), 1, size=(count, looks))
    return steps.cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1)), np.arange(1, looks + 1) / looks


def test_published_constants() -> None:
    """Pocock 2.413 and O'Brien-Fleming 2.040 √(5/k), for five looks at 5 %."""
    shares = np.arange(1, 6) / 5
    assert Pocock().limits(shares) == pytest.approx([2.413] * 5, abs=5e-4)
    wanted = 2.040 * np.sqrt(5 / np.arange(1, 6))
    assert OBrienFleming().limits(shares) == pytest.approx(wanted, abs=2e-3)
    assert Fixed().limits(shares).tolist() == [np.inf] * 4 + [pytest.approx(1.959964)]


@pytest.mark.parametrize("looks", [1, 5, 20])
@pytest.mark.parametrize("rule", [Fixed(), Pocock(), OBrienFleming()], ids=lambda r: r.label())
def test_level_over_all_looks(rule: Stopping, looks: int) -> None:
    values, shares = walks(looks)
    assert (rule.stops(values, shares) >= 0).mean() == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize(("looks", "wrong"), [(5, 0.144), (10, 0.196), (20, 0.245)])
def test_peeking_is_wrong_as_often_as_is_known(looks: int, wrong: float) -> None:
    values, shares = walks(looks)
    found = (Fixed(peeks=True).stops(values, shares) >= 0).mean()
    assert found == pytest.approx(wrong, abs=0.006)


def test_the_mixture_test_is_valid_at_any_look() -> None:
    for looks in (20, 200):
        values, shares = walks(looks, count=20_000)
        assert 0.0 < (MSPRT().stops(values, shares) >= 0).mean() < 0.05


def test_the_mixture_limit_is_where_the_likelihood_ratio_is() -> None:
    """1/L of METHODS is the level exactly at the limit."""
    rule, share = MSPRT(level=0.05, spread=3.0), np.array([0.4])
    z = float(rule.limits(share)[0])
    variance, spread = 1 / 0.4, 3.0
    difference = z * np.sqrt(variance)
    ratio = np.sqrt(variance / (variance + spread)) * np.exp(
        spread * difference**2 / (2 * variance * (variance + spread))
    )
    assert 1 / ratio == pytest.approx(0.05)


def test_real_effects_stop_earlier() -> None:
    """An effect of 2.8 standard errors is found with 80 % power by one look."""
    values, shares = walks(10, drift=2.801585)
    one = Fixed().stops(values, shares)
    assert (one >= 0).mean() == pytest.approx(0.8, abs=0.01)
    many = OBrienFleming().stops(values, shares)
    assert (many >= 0).mean() > 0.75
    ended = np.where(many >= 0, shares[many], 1.0).mean()
    assert ended < 0.85


def test_first_crossing_is_reported() -> None:
    values = np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    assert Fixed(peeks=True).stops(values, np.array([0.3, 0.6, 1.0])).tolist() == [1, -1]
