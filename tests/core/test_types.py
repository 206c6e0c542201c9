"""Runs: order, ties, files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.types import Queries

QUERIES = Queries("test", pl.DataFrame({"query_id": ["q2", "q1", "q3"], "text": ["a", "b", "c"]}))


def frame(*rows: tuple[str, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, ["query_id", "product_id", "score"], orient="row")


def test_ties_are_broken_as_trec_eval_breaks_them() -> None:
    run = Run.from_frame(frame(("q1", "a", 1.0), ("q1", "c", 1.0), ("q1", "b", 2.0)), QUERIES)
    assert run.frame["product_id"].to_list() == ["b", "c", "a"]
    assert run.frame["rank"].to_list() == [1, 2, 3]


def test_queries_keep_the_split_s_order_and_strangers_are_dropped() -> None:
    run = Run.from_frame(frame(("q1", "a", 1.0), ("q2", "b", 1.0), ("q9", "c", 1.0)), QUERIES)
    assert run.frame["query_id"].to_list() == ["q2", "q1"]
    assert run.query_ids == ("q2", "q1", "q3")


def test_depth_cuts_after_ranking() -> None:
    run = Run.from_frame(frame(("q1", "a", 1.0), ("q1", "b", 3.0), ("q1", "c", 2.0)), QUERIES, 2)
    assert run.frame["product_id"].to_list() == ["b", "c"]


rows = st.lists(
    st.tuples(
        st.sampled_from(["q1", "q2", "q3"]),
        st.integers(0, 30).map(lambda n: f"p {n}" if n % 3 else f"p{n}"),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    ),
    unique_by=lambda row: row[:2],
    max_size=40,
)


@given(rows)
def test_a_run_survives_parquet_and_trec(tmp_path_factory, rows) -> None:
    schema = {"query_id": pl.String, "product_id": pl.String, "score": pl.Float64}
    run = Run.from_frame(pl.DataFrame(rows, schema, orient="row"), QUERIES, floor=0.0)
    folder = tmp_path_factory.mktemp("run")
    run.save(folder / "run.parquet")
    loaded = Run.load(folder / "run.parquet")
    assert loaded.frame.equals(run.frame)
    assert (loaded.split, loaded.floor, loaded.query_ids) == ("test", 0.0, run.query_ids)
    run.save_trec(folder / "run.trec")
    if rows:
        assert Run.load_trec(folder / "run.trec", QUERIES).frame.equals(run.frame)


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=8),
        min_size=1,
        max_size=6,
        unique=True,
    ),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
def test_any_id_and_score_survive_trec(ids: list[str], score: float) -> None:
    """Quotes, tabs, `%`, blanks of any script, line ends: out and in again."""
    queries = Queries("test", pl.DataFrame({"query_id": ids, "text": ids}))
    rows = {"query_id": ids, "product_id": ids[::-1], "score": [score] * len(ids)}
    run = Run.from_frame(pl.DataFrame(rows), queries)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.trec"
        run.save_trec(path)
        lines = path.read_bytes().split(b"\n")
        assert len(lines) == len(ids) + 1 and all(len(x.split(b" ")) == 6 for x in lines[:-1])
        assert Run.load_trec(path, queries).frame.equals(run.frame)


def test_other_toolkits_ids_are_read_as_they_are(tmp_path: Path) -> None:
    queries = Queries("test", pl.DataFrame({"query_id": ["q%20"], "text": ["a"]}))
    (tmp_path / "run.trec").write_text("q%20\tQ0  p%41 1 0.5 anserini\r\n")
    frame = Run.load_trec(tmp_path / "run.trec", queries).frame
    assert frame.row(0)[:2] == ("q%20", "p%41")


@pytest.mark.parametrize("score", ["nan", "inf", "1e99"])
def test_scores_of_run_files_are_numbers(score: str, tmp_path: Path) -> None:
    (tmp_path / "run.trec").write_text(f"q1 Q0 p0 1 {score} tag\n")
    with pytest.raises(InputError, match=f"row 1, column 5: '{score}' is no score"):
        Run.load_trec(tmp_path / "run.trec", QUERIES)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet: no run of neurosearch"):
        Run.load(tmp_path / "other.parquet")


@pytest.mark.parametrize(
    "line, message",
    [
        ("q1 Q0 p1 1 0.5", "row 2: 5 columns, not six"),
        ("q1 Q0 p1 1 high tag", "row 2, column 5: 'high' is no score"),
        ("q9 Q0 p1 1 0.5 tag", "row 2: the test split has no query 'q9'"),
    ],
)
def test_bad_trec_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "run.trec").write_text(f"q1 Q0 p0 1 0.9 tag\n{line}\n")
    with pytest.raises(InputError, match=message):
        Run.load_trec(tmp_path / "run.trec", QUERIES)


def test_padding_is_dropped() -> None:
    class Catalogue:
        ids = pl.Series(["a", "b", "c"])

    rows = np.array([[2, -1], [0, 1], [-1, -1]])
    scores = np.array([[1.0, -np.inf], [0.5, 0.7], [-np.inf, -np.inf]])
    run = Run.from_arrays(rows, scores, QUERIES, Catalogue())  # type: ignore[arg-type]
    assert run.frame.select("query_id", "product_id").rows() == [
        ("q2", "c"),
        ("q1", "b"),
        ("q1", "a"),
    ]
