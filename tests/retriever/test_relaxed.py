"""Strict search and its stages by brute force; live as in batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from neurosearch.core.query import Query, Term
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.explainer.base import Scene
from neurosearch.explainer.extractive import Extractive
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.feedback import LiveTerms
from neurosearch.retriever.lucene_search import CLAUSES
from neurosearch.retriever.relaxed import NOTHING, STAGE, Relaxed
from neurosearch.retriever.relaxed_search import Postings, completed
from tests.requests import ask

# Four products over red, mug, oak, sofa.
TERMS = LiveTerms(
    csr_matrix(np.array([[1, 1, 0, 0], [0, 2, 1, 0], [1, 0, 0, 1], [0, 1, 0, 0]])),
    ["red", "mug", "oak", "sofa"],
)


def test_products_that_have_every_term() -> None:
    postings = Postings(TERMS)
    assert postings.met(["red", "mug"]).tolist() == [0]
    assert postings.met(["mug"]).tolist() == [0, 1, 3]
    assert postings.met(["mug", "mug"]).tolist() == [0, 1, 3]
    assert postings.met(["red", "oak"]).tolist() == []
    assert postings.met(["red", "glass"]).tolist() == []
    assert postings.met([]).tolist() == []
    # A term besides may stand in for a missing one.
    assert postings.met(["red", "glass"], ["sofa"]).tolist() == [2]


@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
def test_strict_lists_are_brute_force(engine: str, shop: Any, shop_runtime: Runtime) -> None:
    recipe, request = Relaxed(BM25(engine=engine), least=1), ask(depth=50)
    run = shop_runtime.get(recipe.run(shop, request)).frame
    data = shop_runtime.get(shop)
    tokenizer = recipe.words.analyzer.tokenizer()
    from neurosearch.core.types import TEXT_FIELDS

    tokens = [set(tokenizer.tokens(text)) for text in data.catalogue.all_texts(TEXT_FIELDS)]
    queries = data.queries("test")
    plain = shop_runtime.get(BM25(engine=engine).run(shop, replace(request, depth=500))).frame
    stages = shop_runtime.get(recipe.diagnosis(shop, request))  # type: ignore[arg-type]
    found = 0
    for text, query_id in zip(queries.texts, queries.ids, strict=True):
        wanted = set(tokenizer.tokens(text))
        strict = {data.catalogue.ids[n] for n, own in enumerate(tokens) if wanted <= own}
        mine = run.filter(pl.col("query_id") == query_id)["product_id"].to_list()
        (facts,) = stages.filter(pl.col("query_id") == query_id).to_dicts()
        assert facts[NOTHING] == (0.0 if strict else 100.0)
        assert facts[STAGE] == 1.0 or not strict
        if strict:
            found += 1
            by_score = plain.filter(
                pl.col("query_id") == query_id, pl.col("product_id").is_in(list(strict))
            )
            assert mine == by_score["product_id"].to_list()[:50]
    assert 0 < found < len(queries)


def test_stages_in_order(shop: Any, shop_runtime: Runtime) -> None:
    """Typed, read, with terms besides, then without the word that most products have."""
    recipe = Relaxed(BM25(engine="bm25s"), least=500)
    with recipe.searcher(shop, ask(depth=50), shop_runtime) as live:
        postings = live._postings
        query = Query("red armchair", "redd armchair", (Term("leather", 0.5),))
        stages = [(stage, set(rows.tolist())) for stage, rows in live._stages(query, postings)]
        staged = live.staged(query, 500)
    red, chair, leather = (set(postings.of(t).tolist()) for t in ("red", "armchair", "leather"))
    both = red & chair
    assert [stage for stage, _ in stages] == [1, 2, 3, 4]
    assert stages[0][1] == set() and stages[1][1] == both
    assert stages[2][1] == both | (red & leather) | (chair & leather)
    rarest = min((len(red), "red"), (len(chair), "armchair"))[1]
    assert stages[3][1] == (red if rarest == "red" else chair) | leather
    assert staged.strict == 0 and staged.last == 4
    assert set(staged.rows[: len(both)].tolist()) == both
    assert staged.stages[: len(both)].tolist() == [2] * len(both)
    assert staged.stages.tolist() == sorted(staged.stages)


def test_an_explanation_names_the_stage(shop: Any, shop_runtime: Runtime) -> None:
    scene = Scene(shop, ask(depth=100), shop_runtime)
    recipe = Relaxed(BM25(engine="bm25s"), Dense(Hashing()), least=3)
    with Extractive().opened(recipe, scene) as live:
        rows, scores = live.searcher.search(["red armchair"], 60)
        found = live.explain("red armchair", rows[0], scores[0])
    notes = [why.parts[0].note for why in found]
    assert notes[0].startswith("found in stage ") and notes[-1] == "found by the fallback"
    assert all(why.is_exact for why in found)
    first = found[0].parts[0].of
    assert first is not None and first.is_exact and first.score > 0


def test_a_fallback_fills_what_is_missing() -> None:
    assert completed(np.array([3, 1]), np.array([1, 5, 3, 7, -1]), 4).tolist() == [3, 1, 5, 7]
    assert completed(np.array([3, 1]), np.array([1, 5]), 2).tolist() == [3, 1]


@pytest.mark.parametrize("fallback", [None, Dense(Hashing())])
def test_live_answers_are_the_batch_s(fallback: Any, shop: Any, shop_runtime: Runtime) -> None:
    recipe, request = Relaxed(BM25(), fallback), ask(depth=20)
    run = shop_runtime.get(recipe.run(shop, request)).frame
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with recipe.searcher(shop, request, shop_runtime) as live:
        rows, scores = live.search(queries.texts, 20)
    again = Run.from_arrays(rows, scores, queries, data.catalogue, 20).frame
    assert again["product_id"].equals(run["product_id"])
    if fallback is not None:
        assert run.group_by("query_id").len()["len"].min() == 20


def test_lucene_takes_more_products_than_a_query_may_name(
    shop: Any, shop_runtime: Runtime, monkeypatch: Any
) -> None:
    from neurosearch.retriever import lucene_search

    assert CLAUSES == 1_000
    found = []
    for size in (1_000, 7):
        monkeypatch.setattr(lucene_search, "CLAUSES", size)
        with BM25().searcher(shop, ask(depth=20), shop_runtime) as live:
            found.append(live.among({"red": 1.0, "armchair": 1.0}, np.arange(500)))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
