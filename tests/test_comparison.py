"""The Python front door gives the command line's numbers, and says early what can't work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import neurosearch as ns
from neurosearch.comparison import _seeded
from neurosearch.core.bounds import values_of
from tests.commands import run

SHOP = {"n_products": 500, "n_queries": 60, "n_sessions": 100, "images": False}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> ns.Runtime:
    return ns.Runtime(tmp_path_factory.mktemp("out"), threads=1, progress=False)


@pytest.fixture(scope="module")
def compared(runtime: ns.Runtime) -> ns.Comparison:
    bm25 = ns.BM25(engine="bm25s")
    random = ns.Random()
    return ns.compare(
        {"words": bm25, "vectors": ns.Dense(ns.Hashing()), "chance": random},
        ns.Shop(**SHOP),
        baseline=bm25,
        seeds=2,
        runtime=runtime,
        progress=False,
    )


def test_every_public_name_is_there() -> None:
    for name in ns.__all__:
        assert getattr(ns, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ns.Nothing


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, neurosearch as n; n.BM25(); print(*[m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "hydra", "ranx", "faiss"} & set(done.stdout.split())


def test_the_table_is_the_command_lines(compared: ns.Comparison, runtime: ns.Runtime) -> None:
    hashing = "encoder@retriever.encoder=hashing"
    commands = [["retriever=bm25", "retriever.engine=bm25s"], ["retriever=dense", hashing]]
    for row, command in zip(("words", "vectors"), commands, strict=True):
        folder = runtime.outputs.parent / f"cli_{row}"
        options = ["debug=tiny", "evaluation.latency.queries=0", f"paths.outputs={folder}"]
        assert run([*command, *options]).returncode == 0
        (metrics,) = folder.glob("jobs/adhoc/*/metrics.parquet")
        typed = pl.read_parquet(metrics).drop("query_id").mean().row(0, named=True)
        mine = compared.frame.filter(pl.col("system") == row)
        for metric, mean in mine.select("metric", "mean").iter_rows():
            if metric in typed:
                assert mean == pytest.approx(typed[metric], abs=1e-12), metric
        # The same artifacts, so the same addresses.
        here = {p.name for p in runtime.outputs.glob("artifacts/metrics/*") if p.is_dir()}
        there = {p.name for p in folder.glob("artifacts/metrics/*") if p.is_dir()}
        assert there <= here


def test_rows_and_tests(compared: ns.Comparison) -> None:
    assert [row.system for row in compared.table.rows] == ["words", "vectors", "chance"]
    assert compared.table.baseline == "words" and compared.table.as_wanted
    frame = compared.frame.filter(pl.col("metric") == "nDCG@10")
    seeds = dict(frame.select("system", "seeds").iter_rows())
    assert seeds == {"words": 1, "vectors": 1, "chance": 2}  # equal runs of two seeds are one
    p = dict(frame.select("system", "p_holm").iter_rows())
    assert p["words"] is None and p["chance"] is None and p["vectors"] < 0.05


def test_every_form(compared: ns.Comparison, tmp_path: Path) -> None:
    assert "| words |" in str(compared) and r"\toprule" in compared.to_latex()
    page = compared.page(tmp_path / "deep" / "page.html")
    assert "SIMULATED DATA" in page.read_text()
    html = compared._repr_html_()
    assert html.count("<tr>") == 4 and "<td>words</td>" in html


def test_search_answers_with_titles(runtime: ns.Runtime) -> None:
    bm25 = ns.BM25(engine="bm25s")
    found = ns.search(bm25, ns.Shop(**SHOP), "red mixer", k=3, runtime=runtime, progress=False)
    assert found.columns == ["rank", "score", "product_id", "title"]
    assert found["rank"].to_list() == [1, 2, 3] and found["score"].is_sorted(descending=True)
    assert all("mixer" in title or "red" in title for title in found["title"])
    with pytest.raises(ns.InputError, match="the query text is empty"):
        ns.search(bm25, ns.Shop(**SHOP), " ", runtime=runtime, progress=False)


def test_equal_labels_are_told_apart_by_what_differs(runtime: ns.Runtime) -> None:
    pair = [ns.BM25(engine="bm25s", k1=0.5), ns.BM25(engine="bm25s", k1=1.5)]
    table = ns.compare(pair, ns.Shop(**SHOP), runtime=runtime, progress=False).table
    assert [row.system.split(" · ")[1] for row in table.rows] == ["k1=0.5", "k1=1.5"]
    with pytest.raises(ns.InputError, match="is there twice"):
        ns.compare([pair[0], pair[0]], ns.Shop(**SHOP), runtime=runtime, progress=False)


def test_seeds_reach_every_part() -> None:
    hybrid = ns.Hybrid(
        {"a": ns.Random(seed=5), "b": ns.Random(seed=6)}, ns.RRF(), ns.gain("esci_official")
    )
    assert values_of(_seeded(hybrid, 9), "seed") == [9, 9]
    assert _seeded(hybrid, 9).fusion == hybrid.fusion


def test_what_cannot_work_is_said_before_anything_is_built(tmp_path: Path) -> None:
    runtime = ns.Runtime(tmp_path, progress=False)
    shop = ns.Shop(**SHOP)
    for systems, options, message in (
        ([], {}, "systems: none given"),
        ([ns.RRF()], {}, "is no retriever"),
        ([ns.BM25()], {"baseline": "dense"}, "baseline: 'dense' is none of the rows"),
        ([ns.BM25()], {"gain": "nothing"}, "no gain preset 'nothing'; there are amazon_office"),
        ([ns.BM25()], {"seeds": 0}, "seeds must be a number of seeds"),
    ):
        with pytest.raises(ns.InputError, match=message):
            ns.compare(systems, shop, runtime=runtime, progress=False, **options)
    assert not (tmp_path / "artifacts").exists()


def test_a_row_has_its_own_flags(runtime: ns.Runtime) -> None:
    """What is said of one row's artifacts (timed under load) is not said of the next row."""
    systems = {"timed": ns.BM25(engine="bm25s"), "chance": ns.Random()}
    table = ns.compare(systems, ns.Shop(**SHOP), latency=True, runtime=runtime, progress=False)
    kinds = [{entry["kind"] for entry in row.records[0]["artifacts"]} for row in table.table.rows]
    assert "latency" in kinds[0] and "latency" not in kinds[1] and "bm25s" not in kinds[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((ns.BM25(), ns.Shop()), "systems must be a list"),
        (([ns.BM25(), "bm25"], ns.Shop()), "'bm25' is no retriever"),
        (([ns.BM25()], "shop"), "data must be a data set"),
        (([ns.BM25()], ns.Shop), "data must be a data set"),
    ],
)
def test_other_kinds_of_arguments(arguments: tuple, message: str, runtime: ns.Runtime) -> None:
    with pytest.raises(ns.InputError, match=message):
        ns.compare(*arguments, runtime=runtime)
    with pytest.raises(ns.InputError, match="name must be 1 to 100 letters"):
        ns.compare([ns.BM25()], ns.Shop(), name="a/../../b", runtime=runtime)
    with pytest.raises(ns.InputError, match="seeds must be"):
        ns.compare([ns.BM25()], ns.Shop(), seeds="3", runtime=runtime)
    with pytest.raises(ns.InputError, match="k a number"):
        ns.search(ns.BM25(), ns.Shop(), "red", k="3", runtime=runtime)


def test_names_that_are_close_are_offered() -> None:
    with pytest.raises(AttributeError, match="TableFiles"):
        _ = ns.Tables
    assert "annotations" not in dir(ns) and "BM25" in dir(ns)
