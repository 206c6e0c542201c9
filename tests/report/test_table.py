"""Tables: folding, naming, ranking, and the forms they are written in."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.report import csv as csv_form
from neurosearch.report import html, latex, markdown
from neurosearch.report.formatting import interval, number, places
from neurosearch.report.paper import Report
from neurosearch.report.table import Table, make_tables

BASE = {
    "experiment": "e",
    "status": "done",
    "is_reference": False,
    "seed": 0,
    "data": "shop",
    "variant": "",
    "population": "p",
    "gain_fingerprint": "g",
    "protocol": "catalogue",
    "split": "test",
    "gain": "esci_official",
    "gain_choice": "shop",
    "baseline": "retriever=a",
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
    facts["choices"] = [f"retriever={label.lower()}"]
    files = {"folder": str(place), "metrics": str(place / "metrics.parquet")}
    return {**BASE, **facts, "number": 0, **files, **more}


@pytest.mark.parametrize("metric, best", [("nDCG@10", "B"), ("postings read", "A")])
def test_the_best_of_a_cost_is_the_least(tmp_path: Path, metric: str, best: str) -> None:
    records = [record(tmp_path, name, [value] * 3) for name, value in (("A", 0.2), ("B", 0.4))]
    for job, read in zip(records, (8_516.0, 114_770.0), strict=True):
        frame = pl.read_parquet(job["metrics"]).with_columns(pl.lit(read).alias("postings read"))
        frame.write_parquet(job["metrics"])
        job["means"]["postings read"] = read
    (table,) = make_tables(records)
    assert places(table, metric) == ({best}, {"A", "B"} - {best})


def test_baseline_best_and_significance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, 100)
    records = [
        record(tmp_path, "A", low),
        record(tmp_path, "B", low + 0.3, ("retriever=b",)),
        record(tmp_path, "C", low + rng.normal(0, 0.01, 100), ("retriever=c",)),
        record(tmp_path, "Oracle", np.ones(100), ("retriever=oracle",), is_reference=True),
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
    assert r"\textsuperscript{\dag}" in tex and "nDCG@10 & 95 \\%" in tex
    best = next(row for row in table.rows if row.system == "B")
    assert interval(best, "nDCG@10") in tex


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
    with pytest.raises(InputError, match="'A': two jobs of the same seed overlap in their queries"):
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
    assert "1 training(s) were stopped early by the search" in text and "failed" not in text


def test_commits_of_joined_jobs_are_named_once(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.1, 0.2], ("seed=0",), seed=0) | {"commit": "bbb"},
        record(tmp_path, "A", [0.1, 0.3], ("seed=1",), seed=1) | {"commit": "aaa"},
        record(tmp_path, "B", [0.1, 0.3], ("retriever=b",)) | {"commit": "aaa"},
    ]
    text = markdown.write(make_tables(records)[0], ["nDCG@10"])
    assert "Commit: aaa, bbb." in text


def test_an_experiments_name_makes_no_other_system(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.1, 0.2], ("name=mine", "retriever.k1=0.9")),
        record(tmp_path, "A", [0.1, 0.3], ("retriever.k1=1.2",)),
        record(tmp_path, "B", [0.1, 0.3], ("name=mine", "seed=0"), seed=0),
        record(tmp_path, "B", [0.2, 0.3], ("seed=1",), seed=1),
    ]
    (table,) = make_tables(records)
    assert [row.system for row in table.rows] == ["A · k1=0.9", "A · k1=1.2", "B"]


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
    assert baseline == "shop: no row is the baseline 'retriever=a': 'B' stands in"
    text = markdown.write(tables[0], ["nDCG@10"])
    assert "below B: paired" in text
    assert "(No row is the baseline 'retriever=a': the first one stands in for it.)" in text
    assert Report(("nDCG@10", "p50 ms")).missing(make_tables(records[:1])) == []


def test_holm_is_applied_in_tables(tmp_path: Path) -> None:
    """Against the raw p-values of the same test, corrected by hand."""
    from neurosearch.evaluation.statistics import randomisation_test

    rng = np.random.default_rng(4)
    base = rng.uniform(0, 0.6, 60)
    shifts = {"B": 0.012, "C": 0.016, "D": 0.02}
    others = {name: base + rng.normal(shift, 0.05, 60) for name, shift in shifts.items()}
    records = [record(tmp_path, "A", base)]
    records += [record(tmp_path, n, scores, (f"retriever={n}",)) for n, scores in others.items()]
    (table,) = make_tables(records)
    differences = np.stack([scores - base for scores in others.values()], axis=1)
    raw = randomisation_test(differences, 500, 0)
    order = np.argsort(raw)
    adjusted = np.maximum.accumulate(raw[order] * [3, 2, 1])
    got = np.array([row.cells["nDCG@10"].p_holm for row in table.rows[1:]])
    assert got[order] == pytest.approx(adjusted)
    assert (got[order][:2] > raw[order][:2]).all()


def test_marks_of_trained_rows_count_their_seeds(tmp_path: Path) -> None:
    """A gain that one seed in three makes is not marked, however many queries share it."""
    base = np.random.default_rng(0).uniform(0.2, 0.6, 400)
    records = [record(tmp_path, "A", base)]
    for name, gains in (("B", (0.0, 0.09, 0.0)), ("C", (0.029, 0.03, 0.031))):
        for seed, gain in enumerate(gains):
            words = (f"retriever={name.lower()}", f"seed={seed}")
            records.append(record(tmp_path, name, base + gain, words, seed=seed, seeded=True))
    (table,) = make_tables(records)
    _, lucky, steady = (row.cells["nDCG@10"] for row in table.rows)
    assert lucky.mean == pytest.approx(steady.mean) and lucky.wins == steady.wins == 400
    assert steady.significant and not lucky.significant
    assert lucky.high - lucky.low > 2 * (steady.high - steady.low)
    assert "crossed with Student's t over the seeds" in markdown.write(table, ["nDCG@10"])


def test_a_row_of_one_seed_says_so(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.1, 0.2]),
        record(tmp_path, "B", [0.1, 0.3], ("retriever=b",), seeded=True),
        record(tmp_path, "C", [0.1, 0.3], ("retriever=c", "seed=0"), seeded=True),
        record(tmp_path, "C", [0.2, 0.3], ("retriever=c", "seed=1"), seeded=True, seed=1),
    ]
    (table,) = make_tables(records)
    assert [row.caption for row in table.rows] == ["A", "B (1 seed)", "C"]


@pytest.mark.parametrize(
    "wanted, expected",
    [
        ("retriever=bm25 retriever.k1=1.2", "A · k1=1.2"),
        ("retriever=bm25", "A · k1=0.9"),  # both are: the first
        ("retriever.k1=7", "A · k1=0.9"),  # none is: the first stands in
        ("retriever.mask=TRUE", "B"),
    ],
)
def test_the_baseline_is_named_by_overrides(wanted: str, expected: str, tmp_path: Path) -> None:
    records = [
        record(tmp_path, "Random", [0.0, 0.1], ("retriever=random",), is_reference=True),
        record(tmp_path, "A", [0.1, 0.2], ("retriever.k1=0.9",)),
        record(tmp_path, "A", [0.1, 0.3], ("retriever.k1=1.2",)),
        record(tmp_path, "B", [0.1, 0.3], ("retriever.mask=true",)),
    ]
    for job in records[1:3]:
        job["choices"] = ["retriever=bm25"]
    (table,) = make_tables([{**job, "baseline": wanted} for job in records])
    assert table.baseline == expected
    assert table.as_wanted == (wanted != "retriever.k1=7")
    assert np.isnan({r.system: r for r in table.rows}[expected].cells["nDCG@10"].p_holm)


def test_two_data_sets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "A", [0.2], ("data.path=../a/shop",), population="p1"),
        record(tmp_path, "A", [0.4], ("data.path=../b/shop",), population="p2"),
        record(tmp_path, "A", [0.3], ("gain.offset=1", "data.path=../b/shop"), population="p2",
               gain_fingerprint="h"),
    ]  # fmt: skip
    stems = [table.stem for table in make_tables(records)]
    assert len(set(stems)) == 3 and all("/" not in stem for stem in stems)
    assert "a-shop" in stems[0] and "offset=1" in stems[2]
    twins = [{**job, "overrides": []} for job in records[:2]]
    assert [table.stem for table in make_tables(twins)] == ["shop,p1", "shop,p2"]


def test_what_was_tuned_the_gain_and_the_command_are_on_the_table(tmp_path: Path) -> None:
    chosen = {"bm25_parameters": {"k1": 0.3, "b": 0.2, "boosts": {"title": 2.0}}}
    words = "gain = label - 1; relevant from 2.66"
    job = record(tmp_path, "A", [0.2, 0.4], chosen=chosen, gain_words=words)
    (table,) = make_tables([job], "python -m neurosearch -m retriever=a")
    text = markdown.write(table, ["nDCG@10"])
    assert "Gain: esci_official (gain = label - 1; relevant from 2.66)." in text
    assert "Chosen on dev. A: k1 0.3, b 0.2, boosts title 2." in text
    assert "Command: python -m neurosearch -m retriever=a" in text
    for form in (html, latex):
        assert "k1 0.3, b 0.2" in form.write(table, ["nDCG@10"])
    (line,) = csv.DictReader(io.StringIO(csv_form.write(table, [])))
    assert line["gain"] == words and '"k1": 0.3' in line["chosen"]
    assert line["command"] == table.command


@pytest.mark.parametrize("depth, told", [(200, True), (0, False)])
def test_condensed_figures_name_their_depth(tmp_path: Path, depth: int, told: bool) -> None:
    job = record(tmp_path, "A", [0.2, 0.4], depth=depth)
    job["means"]["condensed nDCG@10"] = 0.3
    frame = pl.read_parquet(job["metrics"])
    frame.with_columns(pl.col("nDCG@10").alias("condensed nDCG@10")).write_parquet(job["metrics"])
    (table,) = make_tables([job])
    text = markdown.write(table, ["nDCG@10", "condensed nDCG@10"])
    assert ("Condensed: of the judged among the first 200." in text) is told


def test_what_each_seed_chose_is_told(tmp_path: Path) -> None:
    chosen = {"weight": {"weight": 0.0}, "fusion ab12": {"norm": "zmuv"}}
    jobs = [
        record(tmp_path, "A", [0.2, 0.4], ("seed=0",), seed=0, chosen=chosen),
        record(tmp_path, "A", [0.2, 0.4], ("seed=1",), seed=1, chosen={"weight": {"weight": 0.9}}),
    ]
    (table,) = make_tables(jobs)
    text = markdown.write(table, ["nDCG@10"])
    assert "A: weight of seed 0: weight 0; weight of seed 1: weight 0.9." in text
    for job in jobs:
        job["chosen"]["weight"] = {"weight": 0.5}
    (table,) = make_tables(jobs)
    assert "A: weight 0.5." in markdown.write(table, ["nDCG@10"])


def test_ties_that_matter_are_told(tmp_path: Path) -> None:
    from neurosearch.evaluation.ties import BEST, WORST

    job = record(tmp_path, "A", [0.5, 0.5])
    frame = pl.read_parquet(job["metrics"]).with_columns(
        pl.Series(WORST, [0.4, 0.5]), pl.Series(BEST, [0.5, 0.56])
    )
    frame.write_parquet(job["metrics"])
    job["means"] |= {WORST: 0.45, BEST: 0.53}
    (table,) = make_tables([job])
    text = markdown.write(table, ["nDCG@10"])
    assert "Other orders could move nDCG@10 of A (.450 to .530)." in text


def test_cells_that_look_like_formulas_are_guarded(tmp_path: Path) -> None:
    (table,) = make_tables([record(tmp_path, "=1+1", [0.5, 0.5])])
    (line,) = csv.DictReader(io.StringIO(csv_form.write(table, [])))
    assert line["system"] == "'=1+1"


def test_latex_labels_are_plain(tmp_path: Path) -> None:
    (table,) = make_tables([record(tmp_path, "A", [0.5, 0.5], variant="n=5,p_q%")])
    assert r"\label{tab:e-shop-n-5-p-q-}" in latex.write(table, ["nDCG@10"])
