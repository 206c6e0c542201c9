"""Detectors: statistics against SciPy's and written formulas, p-values that are uniform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import roc_auc_score

from neurosearch.core.errors import InputError
from neurosearch.detector.base import Detector, Sample, dealings
from neurosearch.detector.c2st import C2st
from neurosearch.detector.centroid import Centroid
from neurosearch.detector.chi2 import Chi2
from neurosearch.detector.frechet import Frechet, distance
from neurosearch.detector.js import Js
from neurosearch.detector.ks import Ks
from neurosearch.detector.mmd import Mmd
from neurosearch.detector.power import wilson
from neurosearch.detector.psi import Psi

NUMBERS = [Ks(permutations=99), Psi(permutations=99)]
LABELS = [Js(permutations=99), Chi2(permutations=99)]
VECTORS = [Centroid(permutations=99), Mmd(permutations=99), Frechet(permutations=49)]
VECTORS += [C2st(permutations=99)]


def drawn(detector: Detector, rng: np.random.Generator, shift: float = 0.0) -> Sample:
    """120 against 120 of what the detector reads; the window moved by `shift`."""
    if detector.reads == "numbers":
        sides = [rng.normal(size=120), rng.normal(size=120) + shift]
    elif detector.reads == "labels":
        sides = [rng.integers(0, 6, 120), rng.integers(0, 6, 120)]
        sides[1][: int(60 * shift)] = 5
    else:
        sides = [rng.normal(size=(120, 8)), rng.normal(size=(120, 8)) + shift]
        sides = [side.astype(np.float32) for side in sides]
    return Sample.of(sides[0], sides[1])


def observed(detector: Detector, sample: Sample) -> float:
    return float(detector.statistics(sample, sample.in_window[None])[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_statistics_of_numbers_and_labels(seed: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, values, 60), rng.integers(0, values + 1, 90)
    numbers = Sample.of(first.astype(float), second.astype(float))
    wanted = stats.ks_2samp(first, second).statistic
    assert observed(Ks(), numbers) == pytest.approx(wanted)
    labels = Sample.of(first, second)
    counts = np.stack([np.bincount(side, minlength=values + 1) for side in (first, second)])
    there = counts[:, counts.sum(axis=0) > 0]
    if there.shape[1] > 1:
        wanted = stats.chi2_contingency(there, correction=False).statistic
        assert observed(Chi2(rare=0.0), labels) == pytest.approx(wanted, rel=1e-4)
    bins = int(labels.values.max()) + 1
    p, q = counts[0, :bins] + 0.5, counts[1, :bins] + 0.5
    wanted = jensenshannon(p, q, base=2) ** 2
    assert observed(Js(), labels) == pytest.approx(wanted, abs=1e-6)


def test_labels_that_nobody_has_are_no_cell() -> None:
    first, second = np.repeat([3, 9], 60), np.repeat([3, 9, 9], 40)
    wanted = stats.chi2_contingency([[60, 60], [40, 80]], correction=False).statistic
    assert observed(Chi2(), Sample.of(first, second)) == pytest.approx(wanted, rel=1e-4)


def test_psi_by_hand() -> None:
    """Bins of the reference's median: 50 and 50 (of equal numbers none), then 25 and 75."""
    reference = np.arange(100.0)
    window = np.concatenate([np.arange(25.0), 50 + np.arange(50.0), 50 + np.arange(25.0)])
    p, q = np.array([50.5, 50.5]) / 101, np.array([25.5, 75.5]) / 101
    wanted = ((p - q) * np.log(p / q)).sum()
    assert observed(Psi(bins=2), Sample.of(reference, window)) == pytest.approx(wanted, rel=1e-5)


def test_statistics_of_vectors() -> None:
    rng = np.random.default_rng(0)
    sample = drawn(Mmd(), rng, 0.3)
    a, b = sample.values[~sample.in_window], sample.values[sample.in_window]
    apart = np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))
    assert observed(Centroid(), sample) == pytest.approx(apart, rel=1e-5)
    pairs = ((sample.values[:, None] - sample.values) ** 2).sum(axis=2)
    width = np.median(pairs[np.triu_indices(240, 1)])
    kernel = np.exp(-pairs / (2 * width))
    within = [kernel[:120, :120], kernel[120:, 120:]]
    wanted = sum((k.sum() - 120) / (120 * 119) for k in within)
    wanted -= 2 * kernel[:120, 120:].mean()
    assert observed(Mmd(), sample) == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    covariances = [np.cov(side, rowvar=False) for side in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    wanted = apart**2 + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert distance(a.astype(float), b.astype(float)) == pytest.approx(wanted, rel=1e-4)
    scores = rng.normal(size=240)
    held_out = Sample(scores, sample.in_window, np.arange(240))
    wanted = roc_auc_score(sample.in_window, scores)
    assert observed(C2st(), held_out) == pytest.approx(wanted)


@pytest.mark.parametrize("detector", [*NUMBERS, *LABELS, *VECTORS], ids=lambda d: d.label())
def test_p_values_are_uniform_where_nothing_changed(detector: Detector) -> None:
    """And small where something did; the order of the queries counts for nothing."""
    found = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        found.append(detector.compare(drawn(detector, rng), rng).p)
    # 120 draws below .2: 24 expected, standard deviation 4.4.
    assert 10 <= sum(p <= 0.2 for p in found) <= 40
    rng = np.random.default_rng(0)
    assert detector.compare(drawn(detector, rng, 1.0), rng).p <= 0.02


@pytest.mark.parametrize("detector", [*NUMBERS, *LABELS, *VECTORS[:2]], ids=lambda d: d.label())
def test_order_counts_for_nothing(detector: Detector) -> None:
    rng = np.random.default_rng(1)
    sample = drawn(detector, rng, 0.5)
    order = rng.permutation(len(sample.units))
    mixed = Sample(sample.values[order], sample.in_window[order], sample.units[order])
    if not isinstance(detector, Psi):  # whose bins are the reference's, in any order
        assert observed(detector, mixed) == pytest.approx(observed(detector, sample), rel=1e-4)
    assert observed(detector, mixed) == pytest.approx(observed(detector, sample), rel=1e-3)


def test_users_are_dealt_whole() -> None:
    """Ten equal queries a user: dealt singly, quiet windows alarm; dealt by users, they don't."""
    alarms = {"users": 0, "queries": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=40), 10)
        users = np.repeat(np.arange(40), 10)
        halves = values[:200], values[200:]
        whole = Sample.of(*halves, users[:200], users[200:])
        alarms["users"] += Ks(permutations=99).compare(whole, rng).p <= 0.05
        alarms["queries"] += Ks(permutations=99).compare(Sample.of(*halves), rng).p <= 0.05
    assert alarms["users"] <= 9 and alarms["queries"] >= 30


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=30, max_size=60), st.integers(0, 1000))
def test_dealings_keep_units_and_sizes(sizes: list[int], seed: int) -> None:
    units = np.repeat(np.arange(len(sizes)), sizes)
    inside = np.arange(len(units)) < len(units) // 2
    dealt = dealings(Sample(units, inside, units), 20, np.random.default_rng(seed))
    for members in dealt:
        shares = np.bincount(units, weights=members) / np.array(sizes)
        assert set(shares) <= {0.0, 1.0}
    assert (np.abs(dealt.sum(axis=1) - inside.sum()) <= max(sizes)).all()


def test_bad_input() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="the window has 10 queries; 50 are needed"):
        Sample.of(np.zeros(60), np.zeros(10))
    with pytest.raises(InputError, match="all values are the same"):
        Ks().compare(Sample.of(np.zeros(60), np.zeros(60)), rng)
    with pytest.raises(InputError, match="not finite"):
        Ks().compare(Sample.of(np.arange(60.0), np.full(60, np.nan)), rng)


def test_wilson() -> None:
    low, high = wilson(1, 100)  # from Brown, Cai and DasGupta's formula by hand
    assert (round(low, 4), round(high, 4)) == (0.0018, 0.0545)
    assert wilson(0, 100)[0] == 0.0
