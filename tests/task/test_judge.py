"""Single raters: kappa with each of them, and among them, by scikit-learn; bad files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

import neurosearch as ns
from neurosearch.core.errors import InputError
from neurosearch.task.judge import by_rater, raters_of

LABELS = ("0", "1", "2", "3")


def test_each_rater_apart(tmp_path: Path) -> None:
    own, first, second = [0, 1, 2, 3, 1, 0], [0, 1, 2, 3, 1, 0], [0, 2, 2, 3, 0, 1]
    ids = {"query_id": ["q"] * 6, "product_id": list("abcdef")}
    pl.DataFrame({**ids, "rater_1": first, "rater_2": second, "final": first}).write_csv(
        tmp_path / "raters.csv"
    )
    raters = raters_of(tmp_path / "raters.csv")
    found = by_rater(pl.DataFrame({**ids, "grade": own}), raters, ns.gain("chorus"), LABELS)
    expected = cohen_kappa_score(own, second, weights="linear")
    assert found == {
        "pairs by all raters": 6,
        "kappa with rater_1": 1.0,
        "kappa with rater_2": pytest.approx(expected),
        "kappa among raters": pytest.approx(expected),
    }
    none = by_rater(
        pl.DataFrame({"query_id": ["x"], "product_id": ["y"], "grade": [1]}),
        raters,
        ns.gain("chorus"),
        LABELS,
    )
    assert none == {"pairs by all raters": 0}


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        raters_of(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("query_id,product_id,final\nq,a,1\n")
    with pytest.raises(InputError, match=r"bad\.csv: no column is named rater"):
        raters_of(tmp_path / "bad.csv")
