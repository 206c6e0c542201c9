"""A table over data sets: means of sets, holes, ranks, and what is no suite."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.report.aggregation import Cell, Row
from neurosearch.report.suite import _difference, check, suite
from neurosearch.report.table import Table
from tests.commands import run

METRIC = "nDCG@10"


def table(data: str, values: dict[str, float]) -> Table:
    rows = tuple(
        Row(name, queries=3, cells={METRIC: Cell(value)}) for name, value in values.items()
    )
    facts = ("catalogue", "test", "gain", "gain", "", 100)
    return Table("e", data, "", *facts, rows=rows)


def test_a_hole_has_no_macro_mean() -> None:
    first = table("one", {"a": 0.2, "b": 0.6, "c": 0.1})
    second = table("two", {"a": 0.4, "b": 0.3})
    text, rows = suite([first, second], METRIC)
    by_name = {row["system"]: row for row in rows}
    assert by_name["a"]["macro mean"] == ".300" and by_name["b"]["macro mean"] == ".450"
    assert by_name["a"]["mean rank"] == "1.50" and by_name["a"]["best of"] == 1
    assert "macro mean" not in by_name["c"] and by_name["c"]["two"] == ""
    assert "a rank test needs 6" in text


def test_what_is_undefined_for_a_query_is_left_out(tmp_path: Path) -> None:
    frames = {"a": [0.5, None, 1.0], "b": [0.2, 0.9, None]}
    rows = {}
    for name, values in frames.items():
        path = tmp_path / f"{name}.parquet"
        pl.DataFrame({"query_id": ["x", "y", "z"], METRIC: values}).write_parquet(path)
        rows[name] = Row(name, records=({"metrics": str(path)},))
    assert _difference(rows["a"], rows["b"], METRIC).tolist() == pytest.approx([0.3])


def test_parts_of_one_catalogue_are_no_suite() -> None:
    one = table("one", {"a": 0.2})
    with pytest.raises(InputError, match="one is there twice"):
        check([one, one, table("two", {"a": 0.1})])
    with pytest.raises(InputError, match="two data sets or more"):
        check([one])


def test_from_the_command_line(toy_outputs: Path) -> None:
    sweep = ["data=shop,shoppers", "retriever=bm25,random", "seed=0", "name=suites"]
    words = ["-m", "experiment=suite", *sweep, "runtime.threads=1", "runtime.progress=false"]
    words += ["data.n_products=500", "evaluation.resamples=200"]
    done = run(words, {"NEUROSEARCH_OUTPUTS": str(toy_outputs)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "on 2 data sets" in done.stdout
    with (toy_outputs / "tables" / "suites" / "suite.csv").open() as handle:
        rows = {row["system"]: row for row in csv.DictReader(handle)}
    bm25 = rows["BM25 (Lucene)"]
    both = [float(bm25[name].rstrip("†‡")) for name in ("shop", "shoppers")]
    assert float(bm25["macro mean"]) == pytest.approx(sum(both) / 2, abs=1e-3)
    assert bm25["mean rank"] == "1.00" and "macro mean" in rows["Random"]
