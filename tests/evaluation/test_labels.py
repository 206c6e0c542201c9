"""Classes of pairs: F1 against scikit-learn, calibration by hand, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.evaluation.classes import Classes
from neurosearch.evaluation.labels import calibration_error, check_shares, f1_by_class


def test_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted, said = rng.integers(0, 4, 50), rng.integers(0, 3, 50)
        theirs = f1_score(wanted, said, labels=range(4), average=None, zero_division=0)
        assert f1_by_class(wanted, said, 4) == pytest.approx(theirs)
        # For single labels micro-F1 is accuracy.
        micro = f1_score(wanted, said, labels=range(4), average="micro")
        assert micro == pytest.approx((wanted == said).mean())


def test_calibration_by_hand() -> None:
    shares = np.array([[0.95, 0.05], [0.95, 0.05], [0.4, 0.6], [0.35, 0.65]])
    wanted = np.array([0, 1, 1, 0])
    # .95, .95: half are right; .6 and .65: one of two.
    assert calibration_error(shares, wanted) == pytest.approx((2 * 0.45 + 2 * 0.125) / 4)
    assert calibration_error(np.eye(2)[[0, 1]], np.array([0, 1])) == 0


def test_labels_between_cuts() -> None:
    classes = Classes(names=("bad", "fair", "good"), cuts=(1.67, 2.33))
    found = classes.of(pl.Series(["1.0", "1.66", "1.67", "2.32", "2.33", "3"]))
    assert found.tolist() == [0, 0, 1, 1, 2, 2]
    assert Classes().of(pl.Series(["E", "I", "C", "S"])).tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"names": ("a",)}, "two or more"),
        ({"names": ("a", "a")}, "each once"),
        ({"names": ("a", "b"), "cuts": (1.0, 2.0)}, "one less"),
        ({"names": ("a", "b", "c"), "cuts": (2.0, 1.0)}, "ascend"),
    ],
)
def test_classes_that_can_not_be(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classes(**fields)


def test_labels_that_belong_nowhere() -> None:
    with pytest.raises(InputError, match=r"no class 'X' \(known: I, C, S, E\)"):
        Classes().of(pl.Series(["E", "X"]))
    with pytest.raises(InputError, match="'E' is no number"):
        Classes(names=("a", "b"), cuts=(1.0,)).of(pl.Series(["1", "E"]))


def test_rows_that_do_not_sum_to_one() -> None:
    pairs = pl.DataFrame({"query_id": ["q", "q"], "product_id": ["a", "b"]})
    check_shares(pairs, np.array([[0.5, 0.5], [0.0, 1.0]]))
    with pytest.raises(InputError, match=r"product 'b' for query 'q' sum to 0\.9"):
        check_shares(pairs, np.array([[0.5, 0.5], [0.4, 0.5]]))
    with pytest.raises(InputError, match="product 'a'"):
        check_shares(pairs, np.array([[np.nan, 0.5], [0.5, 0.5]]))
