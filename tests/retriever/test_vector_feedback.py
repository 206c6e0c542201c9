"""Feedback on vectors: the formula, written out; nothing at beta 0; live as in batch."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.vector_feedback import VectorFeedback
from tests.requests import ask

ENCODER = Hashing(dimensions=64)
FEEDBACK = VectorFeedback(encoder=ENCODER, documents=2, alpha=0.6, beta=0.4)


def test_it_is_rocchio_s_formula(shop_runtime: Runtime, shop) -> None:
    data = shop_runtime.get(shop)
    run = shop_runtime.get(FEEDBACK.run(shop, ask(depth=100)))
    queries = np.asarray(
        shop_runtime.get(ENCODER.query_embeddings(shop, "test", NoProcessing())).vectors
    )
    products = np.asarray(shop_runtime.get(ENCODER.product_embeddings(shop)).vectors)
    exact = [
        np.allclose(
            run.frame.filter(query_id=query)["score"].to_numpy(),
            _expected(queries[number], products),
            atol=1e-5,
        )
        for number, query in enumerate(data.queries("test").ids.to_list())
        if _is_clear(queries[number], products)
    ]
    assert len(exact) > 3 and all(exact)


def _expected(query: np.ndarray, products: np.ndarray) -> np.ndarray:
    first = np.argsort(-(products @ query))[:2]
    moved = 0.6 * query + 0.4 * products[first].mean(axis=0)
    best: np.ndarray = np.sort(products @ (moved / np.linalg.norm(moved)))[::-1][:100]
    return best


def _is_clear(query: np.ndarray, products: np.ndarray) -> bool:
    """Whether the second and the third product differ in score."""
    best = np.sort(products @ query)[::-1]
    return bool(best[1] - best[2] > 1e-4)


def test_without_weight_there_is_no_feedback(shop_runtime: Runtime, shop) -> None:
    none = VectorFeedback(encoder=ENCODER, beta=0.0)
    plain = shop_runtime.get(Dense(encoder=ENCODER).run(shop, ask(depth=100))).frame
    run = shop_runtime.get(none.run(shop, ask(depth=100))).frame
    assert run["score"].to_numpy() == pytest.approx(plain["score"].to_numpy(), abs=1e-5)


def test_live_answers_are_the_batch_s(shop_runtime: Runtime, shop) -> None:
    run = shop_runtime.get(FEEDBACK.run(shop, ask(depth=100)))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with FEEDBACK.searcher(shop, ask(depth=100), shop_runtime) as live:
        rows, scores = live.search(queries.texts, 100)
    again = Run.from_arrays(rows, scores, queries, data.catalogue)
    np.testing.assert_allclose(again.frame["score"], run.frame["score"], atol=1e-5)


def test_the_judged_pool_is_scored_by_the_moved_query(shop_runtime: Runtime, shop) -> None:
    whole = shop_runtime.get(FEEDBACK.run(shop, ask(depth=500))).frame
    pool = shop_runtime.get(FEEDBACK.run(shop, ask(pool="judged"))).frame
    joined = pool.join(whole, on=["query_id", "product_id"], suffix="_whole")
    assert joined.height == pool.height > 0
    assert joined["score"].to_numpy() == pytest.approx(joined["score_whole"].to_numpy(), abs=1e-5)
