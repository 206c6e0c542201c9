"""Tables: folding, naming, ranking, and the forms they are written in."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from neurosearch.errors import InputError
from neurosearch.report import csv as csv_form
from neurosearch.report import html, latex, markdown
from neurosearch.report.base import Report
from neurosearch.report.form import number
from neurosearch.report.table import Table, make_tables

BASE = {
    "experiment": "e",
    "status": "done",
    "floor": False,
    "seed": 0,
    "data": "shop",
    "variant": "",
    "population": "p",
    "gain_fingerprint": "g",
    "protocol": "catalogue",
    "split": "test",
    "gain": "esci_official",
    "gain_choice": "shop",
    "baseline": "A",
    "resamples": 500,
    "statistics_seed": 0,
    "hardware": "CPU",
    "commit": "c0ffee",
    "latency": None,
}


def record(
    folder: Path, label: str, scores: Any, overrides: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    """A job's record, with its per-query scores written."""
    name = "_".join([label, *overrides]).replace("/", "").replace("=", "")
    place = folder / name
    place.mkdir()
    ids = more.pop("ids", [f"q{n:03d}" for n in range(len(scores))])
    frame = pl.DataFrame({"query_id": ids, "nDCG@10": list(map(float, scores))})
    frame.write_parquet(place / "metrics.parquet")
    means = {"nDCG@10": float(np.mean(scores))}
    facts = {"label": label, "overrides": list(overrides), "means": means, "run": name}
    files = {"folder": str(place), "metrics": str(place / "metrics.parquet")}
    return {**BASE, **facts, "number": 0, **files, **more}


def test_baseline_best_and_significance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, 100)
    records = [
        record(tmp_path, "A", low),
        record(tmp_path, "B", low + 0.3, ("retriever=b",)),
        record(tmp_path, "C", low + rng.normal(0, 0.01, 100), ("retriever=c",)),
        record(tmp_path, "Oracle", np.ones(100), ("retriever=oracle",), floor=True),
    ]
    (table,) = make_tables(records)
    rows = {row.system: row.cells["nDCG@10"] for row in table.rows}
    assert rows["B"].significant and rows["B"].effect > 0
    assert rows["B"].wins == 100 and rows["B"].losses == 0
    assert not rows["C"].significant
    assert np.isnan(rows["A"].p_holm) and np.isnan(rows["Oracle"].p_holm)
    assert table.ranked("nDCG@10")[0] == "B"
    text = markdown.write(table, ["nDCG@10"])
    assert f"**{number('nDCG@10', rows['B'].mean)}†**" in text
    assert "SIMULATED DATA" in text
    page = html.write(table, ["nDCG@10"])
    assert "src=" not in page and "http" not in page
    assert 'class="best"' in page
    tex = latex.write(table, ["nDCG@10"])
    assert r"\toprule" in tex and r"\textbf{" in tex and r"\underline{" in tex
    assert r"\textsuperscript{\dag}" in tex


def test_seeds_are_averaged_query_by_query(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.0, 1.0, 0.5]),
        record(tmp_path, "B", [0.0, 0.0, 0.3], ("retriever=b", "seed=0")),
        record(tmp_path, "B", [0.0, 1.0, 0.5], ("retriever=b", "seed=1"), seed=1),
    ]
    (table,) = make_tables(records)
    cell = table.rows[1].cells["nDCG@10"]
    assert table.rows[1].seeds == 2
    assert cell.mean == pytest.approx((0.1 + 0.5) / 2)
    assert cell.sd_seeds == pytest.approx(np.std([0.1, 0.5], ddof=1))
    assert "± .283" in markdown.write(table, ["nDCG@10"])
    assert r"$\pm$ .283" in latex.write(table, ["nDCG@10"])


def test_folds_are_joined(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.2, 0.4], ("data.fold=0",), ids=["a", "b"]),
        record(tmp_path, "A", [0.9], ("data.fold=1",), ids=["c"]),
    ]
    (table,) = make_tables(records)
    (row,) = table.rows
    assert (row.queries, row.seeds) == (3, 1)
    assert row.cells["nDCG@10"].mean == pytest.approx(0.5)


def test_equal_jobs_are_one(tmp_path: Path) -> None:
    """As a search may draw them: twice the queries would be half the interval."""
    once = record(tmp_path, "A", [0.2, 0.4, 0.9])
    (alone,), (twice,) = (make_tables(jobs)[0].rows for jobs in ([once], [once, once]))
    assert twice.queries == 3 and twice.seeds == 1
    assert str(twice.cells) == str(alone.cells)
    other = record(tmp_path, "A", [0.2, 0.4, 0.9], ("query=none",)) | {"overrides": []}
    with pytest.raises(InputError, match="'A': two jobs of one seed answered the same queries"):
        make_tables([once, other])


def test_what_a_search_drew_is_told_in_four_digits(tmp_path: Path) -> None:
    draws = ["4.329071e-05", "0.000123456789", "0.00012345678", "0.05", "1.0"]
    records = [record(tmp_path, "A", [0.2, 0.4], (f"a.b.lr={draw}",)) for draw in draws]
    ended = {**BASE, "status": "pruned", "error": "pruned at step 4, with 0.2000 on dev"}
    records.append({**ended, "overrides": ["a.b.lr=0.00031415926", "a.batch=64"]})
    (table,) = make_tables(records)
    assert [row.system for row in table.rows] == [
        "A · lr=4.329e-05",
        *("A · lr=0.000123456789", "A · lr=0.00012345678"),  # four digits don't tell these apart
        *("A · lr=0.05", "A · lr=1.0", "lr=0.0003142, batch=64"),
    ]
    text = markdown.write(table, ["nDCG@10"])
    assert "| lr=0.0003142, batch=64 | pruned at step 4, with 0.2000 on dev |" in text
    assert "1 training(s) were ended by the search" in text and "failed" not in text


def test_a_missing_fold_is_said_so(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.2, 0.4], ids=["a", "b"]),
        record(tmp_path, "B", [0.9], ("retriever=b",), ids=["a"]),
    ]
    with pytest.raises(InputError, match="'B' was evaluated on other queries"):
        make_tables(records)


def test_undefined_queries_are_left_out(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.5, np.nan, 0.1]),
        record(tmp_path, "B", [0.7, np.nan, 0.3], ("retriever=b",)),
    ]
    (table,) = make_tables(records)
    cell = table.rows[1].cells["nDCG@10"]
    assert cell.mean == pytest.approx(0.5)
    assert cell.queries == 2
    (line,) = [
        r for r in csv.DictReader(io.StringIO(csv_form.write(table, []))) if r["system"] == "B"
    ]
    assert line["n_queries"] == "2"


def test_other_data_protocol_split_or_gain_is_another_table(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.2]),
        record(tmp_path, "A", [0.2], ("x=1",), protocol="judged"),
        record(tmp_path, "A", [0.2], ("x=2",), split="dev"),
        record(tmp_path, "A", [0.2], ("x=3",), gain_fingerprint="h", gain_choice="esci_exp"),
        record(tmp_path, "A", [0.2], ("x=5",), population="q", variant="n_products=9"),
        record(tmp_path, "A", [0.2], ("x=4",), data="beir", gain_choice="beir"),
    ]
    stems = [table.stem for table in make_tables(records)]
    assert stems == [
        "shop",
        "shop.judged",
        "shop.dev",
        "shop.esci_exp",
        "shop,n_products=9",
        "beir",
    ]


def test_holes_are_shown_in_every_form(tmp_path: Path) -> None:
    broken = {**BASE, "status": "failed", "error": "no | such_file", "overrides": ["retriever=x"]}
    records = [record(tmp_path, "A", [0.2, 0.3]), {**broken, "number": 1, "folder": "f"}]
    (table,) = make_tables(records)
    assert "| retriever=x | failed: no / such_file |" in markdown.write(table, ["nDCG@10"])
    assert r"failed: no | such\_file" in latex.write(table, ["nDCG@10"])
    assert "failed: no | such_file" in html.write(table, ["nDCG@10"])
    assert "retriever=x" not in csv_form.write(table, [])


@pytest.mark.parametrize(
    "metric, value, text",
    [
        ("nDCG@10", 0.3664, ".366"),
        ("nDCG@10", 1.0, "1.000"),
        ("nDCG@10", float("nan"), ""),
        ("p50 ms", 12.34, "12.3"),
        ("p50 ms", 0.123, "0.12"),
        ("batch q/s", 12345.6, "12,346"),
    ],
)
def test_numbers(metric: str, value: float, text: str) -> None:
    assert number(metric, value) == text


def test_latex_special_characters() -> None:
    assert latex.escape("50% of a_b & {c} ~ 1 < 2") == (
        r"50\% of a\_b \& \{c\} \textasciitilde{} 1 \textless{} 2"
    )


def test_the_page_escapes_names() -> None:
    table = Table("e", "shop", "", "catalogue", "test", "g", "shop", "A", 10, ())
    assert "<script>alert" not in html.write(
        Table(**{**table.__dict__, "experiment": "<script>alert(1)</script>"}), []
    )


def test_what_was_asked_for_and_is_not_there_is_told(tmp_path: Path) -> None:
    records = [record(tmp_path, name, [0.2, 0.4], (f"retriever={name}",)) for name in "BC"]
    tables = make_tables(records)
    slices, baseline = Report(("nDCG@10", "nDCG@10 tail")).missing(tables)
    assert slices.startswith("report.columns: no row has 'nDCG@10 tail'")
    assert baseline == "shop: no row is the baseline, 'A'"
    assert Report(("nDCG@10", "p50 ms")).missing(make_tables(records[:1])) == []
