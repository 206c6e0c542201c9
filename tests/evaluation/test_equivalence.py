"""Two one-sided tests: a hand example, SciPy's one-sided tests, the interval form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from neurosearch.evaluation.equivalence import equivalence


def test_by_hand() -> None:
    """Differences 0, .02, -.01, .03: mean .01, sd .01826, error .00913; margin .05.

    t = (.01 + .05) / .00913 = 6.57 and (.01 - .05) / .00913 = -4.38, with 3 degrees of freedom.
    """
    found = equivalence(np.array([0.0, 0.02, -0.01, 0.03]), 0.05)
    assert found.mean == pytest.approx(0.01)
    assert found.p == pytest.approx(0.0110, abs=2e-4)  # of t = 4.38
    assert found.high - found.mean == pytest.approx(2.3534 * 0.009129, rel=1e-3)


@given(st.integers(0, 10_000), st.integers(2, 60), st.floats(0.001, 0.2))
def test_it_is_scipys_and_its_interval_form(seed: int, count: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    differences = rng.normal(rng.normal(0, 0.02), 0.05, count)
    found = equivalence(differences, margin)
    low = ttest_1samp(differences, -margin, alternative="greater").pvalue
    high = ttest_1samp(differences, margin, alternative="less").pvalue
    assert found.p == pytest.approx(max(low, high), abs=1e-9)
    within = -margin < found.low and found.high < margin
    assert (found.p < 0.05) == within


def test_no_spread_and_bad_input() -> None:
    assert equivalence(np.zeros(5), 0.003).p == 0
    assert equivalence(np.full(5, 0.01), 0.003).p == 1
    for values, margin in ((np.zeros(1), 0.1), (np.zeros(5), 0.0)):
        with pytest.raises(ValueError, match="needs two queries"):
            equivalence(values, margin)
