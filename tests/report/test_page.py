"""The page in a real browser: what a reader clicks on works, offline and without an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neurosearch.core.types import Dataset
from neurosearch.evaluation.opened import opened
from neurosearch.report import html, markdown
from neurosearch.report.aggregation import Cell, Row
from neurosearch.report.charts import quality_against
from neurosearch.report.per_query import evidence
from neurosearch.report.provenance import making
from neurosearch.report.slices import slices_of
from neurosearch.report.table import Table, make_tables
from tests.test_app import BM25, run

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
NAMES = ["BM25 (bm25s) · k1=0.1", "BM25 (bm25s) · k1=3.0"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Of a sweep of two, the second standing on a training and on trees as well."""
    outputs = tmp_path_factory.mktemp("page")
    words = ("retriever.k1=0.1,3.0", "evaluation.baseline='retriever.k1=0.1'")
    done = run(outputs, "-m", *BM25, *words)
    assert done.returncode == 0, done.stderr
    assert (outputs / "tables" / "adhoc").glob("*.html")
    paths = (outputs / "jobs" / "adhoc").glob("*/record.json")
    records = sorted((json.loads(path.read_text()) for path in paths), key=lambda r: r["number"])
    training = outputs / "artifacts" / "biencoder" / "f00d"
    trees = outputs / "artifacts" / "lambdamart" / "beef"
    for folder in (training, trees):
        folder.mkdir(parents=True)
    lines = ["dev nDCG@10,epoch,loss,step", ",0,4.5,1", "0.25,0,,1", ",0,2.5,2"]
    (training / "curves.csv").write_text("\n".join(lines))
    importance = {"bm25": 0.75, "coverage": 0.25}
    manifest = {"kind": "lambdamart", "fingerprint": "beef", "files": {}, "inputs": []}
    manifest |= {"seconds": 1.0, "created": "2026-01-01T00:00:00+00:00"}
    manifest |= {"details": {"importance": importance}}
    (trees / "manifest.json").write_text(json.dumps(manifest))
    records[1]["artifacts"] += [
        {"event": "built", "kind": "biencoder", "fingerprint": "f00d"},
        {"event": "built", "kind": "lambdamart", "fingerprint": "beef"},
    ]
    records[1]["latency"] = {"p50 ms": 9.0}
    records[0]["latency"] = {"p50 ms": 3.0}
    (made,) = make_tables(records)
    return made


def test_evidence_is_what_the_jobs_wrote(table: Table) -> None:
    found = evidence(table, queries=5)
    assert found["systems"] == NAMES
    record = table.rows[1].records[0]
    metrics = pl.read_parquet(record["metrics"])
    by_query = dict(metrics.select("query_id", "nDCG@10").iter_rows())
    run_file = pl.read_parquet(Path(record["folder"]) / "run.parquet")
    root = Path(record["metrics"]).parents[2]
    (data,) = (e["fingerprint"] for e in record["artifacts"] if e["kind"] == "data")
    dataset = Dataset(root / "data" / data, "shop")
    asked = dataset.queries("test").frame
    assert found["scores"][1] == [round(by_query[q], 4) for q in asked["query_id"]]
    assert found["queries"] == asked["text"].to_list()
    # Those listed are those that differ most; their lists are the run's ten first.
    gaps = [abs(a - b) for a, b in zip(*found["scores"], strict=True)]
    assert sorted(found["listed"]) == found["listed"] and len(found["listed"]) == 5
    assert min(gaps[n] for n in found["listed"]) >= sorted(gaps)[-5] - 1e-4
    titles = dict(
        pl.read_parquet(dataset.catalogue.path, columns=["product_id", "title"]).iter_rows()
    )
    labels = {(q, p): label for q, p, label in opened(dataset).judgments("test").frame.iter_rows()}
    for place, n in enumerate(found["listed"]):
        query = asked["query_id"][n]
        own = run_file.filter((pl.col("query_id") == query) & (pl.col("rank") <= 10))
        own = own.sort("rank")["product_id"].to_list()
        shown = found["lists"][1][place]
        assert [found["titles"][p] for p in shown] == [titles[p][:90] for p in own]
        for number, product in zip(shown, own, strict=True):
            grade = found["grades"][place].get(str(number))
            assert (grade[0] if grade else None) == labels.get((query, product))
            if grade:
                assert grade[1] == (grade[0] == "E")


def test_slices_by_hand(tmp_path: Path) -> None:
    products = {"product_id": ["p", "r"], "title": ["a", "b"], "brand": ["Acme Tools", None]}
    pl.DataFrame(products).write_parquet(tmp_path / "products.parquet")
    texts = [
        "acme drill",
        "drill without cord",
        "a lamp for the kitchen table",
        "dcd996b",
        "5ft 12v",
    ]
    ids = [f"q{n}" for n in range(5)]
    asked = pl.DataFrame({"query_id": ids, "text": texts, "source": list("aabbb")})
    asked.with_columns(split=pl.lit("test")).write_parquet(tmp_path / "queries.parquet")
    judged = {"query_id": ["q0", "q0", "q1", "q1", "q1"], "product_id": list("prprs")}
    frame = pl.DataFrame({**judged, "label": list("EEISS"), "split": ["test"] * 5})
    frame.write_parquet(tmp_path / "judgments.parquet")
    found = slices_of(asked, Dataset(tmp_path, "d"), frame)
    by_name = {s["name"]: [s["values"][n] for n in s["of"]] for s in found}
    words = ["1-2 words", "3-4 words", "5 or more words", "1-2 words", "1-2 words"]
    assert by_name["query length"] == words
    assert by_name["negation"] == ["none", "negation", "none", "none", "none"]
    assert by_name["brand or model"] == [
        "a brand",
        "neither",
        "neither",
        "a model number",
        "neither",
    ]
    mixes = ["mostly E", "mostly S", *["mostly unjudged"] * 3]
    assert by_name["label mix"] == mixes
    assert by_name["source"] == list("aabbb")


def test_how_rows_were_made(table: Table) -> None:
    base, other = making(table)
    assert base["is_baseline"] and base["differences"] == []
    assert ["retriever.k1", "0.1", "3.0"] in other["differences"]
    (curve,) = other["curves"]
    assert curve["metrics"] == {"dev nDCG@10": [(1.0, 0.25)], "loss": [(1.0, 4.5), (2.0, 2.5)]}
    assert other["importance"] == [["bm25", 0.75], ["coverage", 0.25]]


def test_the_front_is_what_nothing_dominates() -> None:
    points = {
        "A": (0.5, 10.0),
        "B": (0.4, 10.0),
        "C": (0.4, 2.0),
        "D": (0.3, 5.0),
        "E": (0.6, 90.0),
    }
    rows = tuple(
        Row(name, cells={"nDCG@10": Cell(quality), "p50 ms": Cell(cost)})
        for name, (quality, cost) in points.items()
    )
    said = {"experiment": "e", "data": "d", "variant": "", "protocol": "catalogue", "split": "test"}
    table = Table(**said, gain="g", gain_choice="d", baseline="", resamples=1, rows=rows)
    spec = quality_against(table, "p50 ms")
    points = spec["data"]["values"]
    assert {p["system"] for p in points if p["front"]} == {"A", "C", "E"}
    assert spec["description"].endswith("On the Pareto front: C; A; E")  # the cheapest first
    assert quality_against(table, "index MB") == {}  # no row has it


@pytest.fixture(scope="module")
def page(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page in a browser that has no network; anything it says is an error."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: one of {', '.join(BROWSERS)}")
    path = tmp_path_factory.mktemp("html") / "page.html"
    path.write_text(html.write(table, ["nDCG@10", "Recall@100", "p50 ms"]), encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        context = browser.new_context(offline=True)
        opened = context.new_page()
        said: list[str] = []
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("console", lambda message: said.append(message.text))
        opened.on("request", lambda request: said.append(request.url))
        opened.goto(path.as_uri())
        assert said == [path.as_uri()]
        said.clear()
        yield opened
        assert said == []
        browser.close()


def test_a_click_sorts(page: Any, table: Table) -> None:
    def first() -> str:
        return str(page.locator("#table tbody tr td").first.inner_text())

    by_cost = sorted(table.rows, key=lambda row: row.cells["p50 ms"].mean)
    head = page.locator("#table th", has_text="p50 ms")
    head.locator("button").press("Enter")  # the best of a cost is the least
    assert first() == by_cost[0].system and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert first() == by_cost[-1].system and head.get_attribute("aria-sort") == "descending"
    ranked = table.ranked("nDCG@10")
    page.locator("#table th button", has_text="nDCG@10").click()
    assert first() == ranked[0]


def test_any_two_systems_are_compared(page: Any, table: Table) -> None:
    found = evidence(table, html.QUERIES)
    gaps = [b - a for a, b in zip(*found["scores"], strict=True)]
    page.select_option("#one", label=NAMES[1])
    page.select_option("#other", label=NAMES[0])
    won, lost = sum(g > 1e-9 for g in gaps), sum(g < -1e-9 for g in gaps)
    ties = len(gaps) - won - lost
    tally = page.locator("#tally").inner_text()
    assert f"A wins {won}, ties {ties}, loses {lost} of {len(gaps)} queries" in tally
    # The first listed query is the one that A wins by most; its lists are there, side by side.
    best = max(range(len(gaps)), key=lambda n: gaps[n])
    assert found["queries"][best] in page.locator("#listing li").first.inner_text()
    place = found["listed"].index(best)
    shown = page.locator("#lists > div").first.locator("li").all_inner_texts()
    expected = [found["titles"][n] for n in found["lists"][1][place]]
    assert len(shown) == len(expected)
    assert all(text.startswith(title) for text, title in zip(shown, expected, strict=True))
    hits = page.locator("#lists > div").first.locator("li.hit").count()
    grades = found["grades"][place]
    assert hits == sum(grades.get(str(n), [0, 0])[1] for n in found["lists"][1][place])
    page.fill("#find", "no such words")
    assert page.locator("#listing li").count() == 0
    page.fill("#find", "")
    assert page.locator("#listing li").count() == len(found["listed"])


def test_slices_and_charts_and_makings(page: Any, table: Table) -> None:
    rows = page.locator("#kinds tbody tr").count()
    found = evidence(table, html.QUERIES)
    assert rows == 1 + sum(len(set(s["of"])) for s in found["slices"])
    points = page.locator("#pareto .mark-symbol path")
    assert points.count() == len(table.rows)  # one chart: of latency
    filled = [points.nth(n).get_attribute("fill-opacity") != "0" for n in range(points.count())]
    assert any(filled)
    page.locator("#made summary", has_text=NAMES[1]).click()
    assert page.locator("#curves .mark-line path").count() == 1
    ends = page.locator("#curves li").inner_text()
    assert ends == f"{NAMES[1]}: loss 4.5 to 2.5; dev nDCG@10 0.25 to 0.25"
    assert page.locator("#curves .mark-symbol.role-mark path").count() == 2
    page.locator("#curves .vega-bindings select").select_option("dev nDCG@10")
    page.wait_for_function(
        "document.querySelectorAll('#curves .role-mark.mark-symbol path').length == 1"
    )
    assert "retriever.k1" in page.locator("#made details[open] .differences").inner_text()
    assert "coverage" in page.locator("#made details[open] .importance").inner_text()


def test_nothing_is_cut_off(page: Any) -> None:
    """On a telephone tables scroll by themselves, the page doesn't."""
    before = page.viewport_size
    page.set_viewport_size({"width": 420, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size(before)
    inside = """[...document.querySelectorAll("#listing i")].every(gap =>
        gap.getBoundingClientRect().right <= document.getElementById("listing").clientLeft
          + document.getElementById("listing").getBoundingClientRect().left
          + document.getElementById("listing").clientWidth)"""
    assert page.evaluate(inside)


OVERLAPS = """(() => {
    const boxes = [];
    const walk = document.createTreeWalker(document.querySelector("#table table"),
                                           NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        if (!walk.currentNode.textContent.trim()) continue;
        const range = document.createRange();
        range.selectNodeContents(walk.currentNode);
        for (const box of range.getClientRects()) boxes.push([walk.currentNode.textContent, box]);
    }
    const found = [];
    boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
        const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (wide > 1 && high > 1) found.push([a, b]);
    }));
    return [boxes.length, found];
})()"""


@pytest.mark.parametrize("width", [390, 1400, 1920])
def test_no_two_texts_of_the_table_overlap(page: Any, width: int) -> None:
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": 900})
    count, overlaps = page.evaluate(OVERLAPS)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size(before)
    assert count >= 2 * (1 + 2 * 3)  # two rows: a name, and three numbers with their intervals
    assert overlaps == []


def test_columns_that_no_row_has_are_not_all_there_is() -> None:
    """As with a report for runs over tokenizers: then all that the rows have is shown."""
    row = Row("rqkmeans", cells={"collision_rate": Cell(0.25)})
    said = {"experiment": "e", "data": "d", "variant": "", "protocol": "tokenizer", "split": ""}
    table = Table(**said, gain="", gain_choice="", baseline="", resamples=0, rows=(row,))
    assert "| system | collision_rate |" in markdown.write(table, ["nDCG@10"])
