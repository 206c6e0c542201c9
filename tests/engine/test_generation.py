"""Generations: what they are made of, when they are loaded again, and what goes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

import neurosearch as ns
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.filters import Range
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Catalogue, Dataset
from neurosearch.encoder.hashing import Hashing
from neurosearch.engine.base import Batch, Engine
from neurosearch.engine.files import name_of, owner_of
from neurosearch.engine.generation import Documents
from neurosearch.engine.local import Local
from neurosearch.engine.postgres import Postgres
from neurosearch.engine.pruning import drop, unused
from neurosearch.engine.qdrant_edge import QdrantEdge
from neurosearch.fusion.rrf import RRF
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.engine import (
    SAME,
    EngineHybrid,
    EngineVectors,
    EngineWords,
    engines_in,
)
from neurosearch.retriever.hybrid import Hybrid
from tests.requests import ask

ENGINES: dict[str, Engine] = {
    "local": Local(),
    "edge": QdrantEdge(),
    "postgres": Postgres(),
}
ENCODER = Hashing(dimensions=64)
DEPTH = 100


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def overlap(run: Run, reference: Run) -> float:
    """Share of the reference's products that a run has too."""
    keys = ["query_id", "product_id"]
    same = run.frame.join(reference.frame, on=keys, how="semi").height
    return same / reference.frame.height


def test_words_are_our_bm25(engine: Engine, shop: Any, shop_runtime: Runtime) -> None:
    run = shop_runtime.get(EngineWords(engine).run(shop, ask(depth=DEPTH)))
    ours = shop_runtime.get(BM25(engine="bm25s").run(shop, ask(depth=DEPTH)))
    assert overlap(run, ours) >= 0.99
    joined = run.frame.join(ours.frame, on=["query_id", "product_id"])
    np.testing.assert_allclose(joined["score"], joined["score_right"], rtol=1e-4)


def test_vectors_are_our_exact_search(engine: Engine, shop: Any, shop_runtime: Runtime) -> None:
    run = shop_runtime.get(EngineVectors(engine, encoder=ENCODER).run(shop, ask(depth=DEPTH)))
    ours = shop_runtime.get(Dense(ENCODER).run(shop, ask(depth=DEPTH)))
    assert overlap(run, ours) >= 0.95
    joined = run.frame.join(ours.frame, on=["query_id", "product_id"])
    np.testing.assert_allclose(joined["score"], joined["score_right"], atol=1e-5)


def test_both_is_our_fusion(engine: Engine, shop: Any, shop_runtime: Runtime) -> None:
    run = shop_runtime.get(EngineHybrid(engine, encoder=ENCODER).run(shop, ask(depth=200)))
    members = {"words": EngineWords(engine), "vectors": EngineVectors(engine, encoder=ENCODER)}
    fused = Hybrid(members, RRF(), ns.gain("shop"))
    ours = shop_runtime.get(fused.run(shop, ask(depth=200)))
    best = ours.frame.filter(pl.col("rank") <= 10)
    joined = best.join(run.frame, on=["query_id", "product_id"], how="left")
    # Equal scores of words stand in another order in some engines: their ranks are shared out.
    assert joined["score_right"].null_count() == 0
    close = (joined["score"] - joined["score_right"]).abs() < 1e-6
    assert close.mean() > (0.5 if isinstance(engine, QdrantEdge) else 0.99)  # type: ignore[operator]


def test_live_lists_are_the_batch_lists(engine: Engine, shop: Any, shop_runtime: Runtime) -> None:
    recipe = EngineHybrid(engine, encoder=ENCODER)
    run = shop_runtime.get(recipe.run(shop, ask(depth=20)))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with recipe.searcher(shop, ask(depth=20), shop_runtime) as live:
        rows, _ = live.search(queries.texts[:5], 20)
    for place, name in enumerate(queries.ids[:5]):
        wanted = run.frame.filter(pl.col("query_id") == name).sort("rank")
        given = data.catalogue.ids.gather(rows[place][rows[place] >= 0])
        scored = wanted.with_columns(wanted["score"].round(6).alias("tied"))
        assert set(given) == set(wanted["product_id"])
        best = scored.filter(pl.col("tied") == scored["tied"].max())["product_id"]
        assert given[0] in best.to_list()


def test_filters_of_a_live_engine(engine: Engine, shop: Any, shop_runtime: Runtime) -> None:
    data = shop_runtime.get(shop)
    brands = pl.read_parquet(data.catalogue.path)["brand"]
    wanted = brands.value_counts(sort=True)["brand"][0]
    with EngineWords(engine).searcher(shop, ask(), shop_runtime) as live:
        found, _ = live.filtered(data.queries("test").texts, 10, {"brand": [wanted]})  # type: ignore[attr-defined]
        rows = found[found >= 0]
        assert len(rows) and set(brands.gather(rows)) == {wanted}
        with pytest.raises(InputError, match="'weight': the engine holds no such field"):
            live.filtered(["mug"], 10, {"weight": Range(1)})  # type: ignore[attr-defined]


def test_diagnosis_counts_what_exact_search_finds(
    engine: Engine, shop: Any, shop_runtime: Runtime
) -> None:
    found = EngineVectors(engine, encoder=ENCODER).diagnosis(shop, ask(depth=DEPTH))
    assert found is not None
    frame = shop_runtime.get(found)
    assert frame.columns == ["query_id", *SAME]
    least = 99.9 if isinstance(engine, Local) else 95
    assert all(least <= frame[name].mean() <= 100 for name in SAME)  # type: ignore[operator]


def test_what_changes_a_generation(shop: Artifact[Dataset]) -> None:
    def name(engine: Engine, **fields: Any) -> str:
        return EngineWords(engine, **fields).generation(shop).artifact_fingerprint

    usual = name(Postgres())
    assert name(Postgres(search=300)) == usual  # only searches read it
    assert name(Postgres(timeout=5.0, batch=10)) == usual
    assert name(Postgres(dsn="postgresql://host/db", embedded=False)) == usual
    assert name(Postgres(links=32)) != usual
    assert name(Postgres(stored="half")) != usual
    assert name(Postgres(), k1=1.2) != usual
    assert name(Postgres(), fields=("brand",)) != usual
    assert name(QdrantEdge()) != usual


def test_a_dropped_generation_is_loaded_again(engine: Engine, shop: Any, runtime: Runtime) -> None:
    recipe = EngineWords(engine)
    generation = recipe.generation(shop)
    loaded = runtime.get(generation)
    with engine.session(runtime) as session:
        session.drop(loaded.name)
    again = Runtime(runtime.outputs, device="cpu", progress=False)
    assert generation.missing(again.store.folder(generation), again)
    again.get(generation)
    built = [one["kind"] for one in again.store.events if one["event"] == "built"]
    assert built == ["generation"]
    assert not generation.missing(again.store.folder(generation), again)


def test_a_generation_that_lost_products_is_completed(
    engine: Engine, shop: Any, runtime: Runtime
) -> None:
    generation = EngineWords(engine).generation(shop)
    loaded = runtime.get(generation)
    with engine.session(runtime) as session:
        session.collection(loaded.name, loaded.shape).remove(np.arange(20))
    again = Runtime(runtime.outputs, device="cpu", progress=False)
    assert "of 500" in generation.missing(again.store.folder(generation), again)
    again.get(generation)
    with engine.session(again) as session:
        assert session.collection(loaded.name, loaded.shape).count() == 500


def test_a_generation_with_foreign_products_is_loaded_anew(shop: Any, runtime: Runtime) -> None:
    generation = EngineWords(Local()).generation(shop)
    loaded = runtime.get(generation)
    with Local().session(runtime) as session:
        collection = session.collection(loaded.name, loaded.shape)
        words = sparse.csr_matrix((1, loaded.shape.terms), dtype=np.float32)
        collection.add(Batch(np.array([10_000]), words, None, [{}]))
    again = Runtime(runtime.outputs, device="cpu", progress=False)
    again.get(generation)
    with Local().session(again) as session:
        collection = session.collection(loaded.name, loaded.shape)
        assert collection.count() == 500 and not collection.has(np.array([10_000])).any()


def test_a_reranker_over_an_engine(shop: Any, shop_runtime: Runtime) -> None:
    """The engine's list is what a re-ranker orders again."""
    recipe = ns.Reranked(
        EngineWords(Local()), ns.LambdaMART(gain=ns.gain("shop")), ns.gain("shop"), depth=20
    )
    run = shop_runtime.get(recipe.run(shop, ask(depth=20)))
    first = shop_runtime.get(EngineWords(Local()).run(shop, ask(depth=20)))
    assert overlap(run, first) == 1


def test_pruning_leaves_what_is_not_ours(engine: Engine, shop: Any, runtime: Runtime) -> None:
    kept = EngineWords(engine).generation(shop)
    gone = EngineWords(engine, k1=1.5).generation(shop)
    published = EngineWords(engine, k1=1.9).generation(shop)
    names = [runtime.get(one).name for one in (kept, gone, published)]
    shape = runtime.get(kept).shape
    foreign = name_of("ffffffff", "0" * 24)
    with engine.session(runtime) as session:
        session.collection(foreign, shape).create()
        session.switch("shop", names[2])
    going = unused(engine, runtime, {kept.artifact_fingerprint})
    assert going == [names[1]]
    drop(engine, runtime, going)
    with engine.session(runtime) as session:
        assert {names[0], names[2]} <= set(session.names())
        assert names[1] not in session.names()
        if not isinstance(engine, Local):  # whose empty generation has no file
            assert foreign in session.names()


def test_owners_differ(tmp_path: Path) -> None:
    first, second = (owner_of(Runtime(tmp_path / name)) for name in ("a", "b"))
    assert first != second and owner_of(Runtime(tmp_path / "a")) == first


def test_engines_are_found_inside_other_retrievers() -> None:
    words, vectors = EngineWords(Local()), EngineVectors(Local(), encoder=ENCODER)
    hybrid = Hybrid({"words": words, "vectors": vectors}, RRF(), ns.gain("shop"))
    assert list(engines_in(hybrid)) == [words, vectors]


def test_a_judged_pool_is_refused(shop: Any) -> None:
    with pytest.raises(InputError, match=r"retriever=engine/words .*use bm25 or dense"):
        EngineWords(Local()).run(shop, ask(pool="judged"))


def products(folder: Path, **columns: list[Any]) -> Catalogue:
    """A catalogue of a few columns."""
    count = len(next(iter(columns.values())))
    frame = pl.DataFrame({"product_id": [f"p{n}" for n in range(count)], **columns})
    for name in ("brand", "colour", "category", "attributes"):
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.String).alias(name))
    frame.write_parquet(folder / "products.parquet")
    return Catalogue(folder / "products.parquet")


def test_documents_by_number(tmp_path: Path) -> None:
    """Numbers are by descending id; fields have their kinds; a category has its levels."""
    attributes = [json.dumps({"price": "9.5", "size": 3}), json.dumps({"size": "L"}), None]
    catalogue = products(
        tmp_path, brand=["a", None, "c"], category=["x > y", "x", None], attributes=attributes
    )
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    documents = Documents(catalogue, None, vectors, ("brand", "category", "price", "size"))
    assert dict(documents.shape.fields) == {
        "brand": "text",
        "category": "path",
        "price": "number",
        "size": "text",
    }
    (batch,) = documents.batches(10)
    assert batch.vectors is not None and batch.vectors[0].tolist() == [4.0, 5.0]  # p2 comes first
    assert list(batch.fields) == [
        {"brand": "c"},
        {"category": ["x"], "size": "L"},
        {"brand": "a", "category": ["x", "x > y"], "price": 9.5, "size": "3"},
    ]
    usual = Documents(catalogue, None, vectors, None)
    assert set(usual.shape.fields) == {"brand", "category"}  # no product has a colour
    with pytest.raises(InputError, match="no product has 'colour'"):
        _ = replace(documents, fields=("colour",)).shape
