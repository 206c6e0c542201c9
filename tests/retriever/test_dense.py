"""Dense retrieval: exact, of one encoder only, batch and live alike."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.opened import opened
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.dense import Dense, floor_of
from tests.requests import ask

ENCODER = Hashing(dimensions=64)
DENSE = Dense(encoder=ENCODER)


def test_it_is_brute_force(shop_runtime: Runtime, shop) -> None:
    data = shop_runtime.get(shop)
    run = shop_runtime.get(DENSE.run(shop, ask(depth=100)))
    queries = shop_runtime.get(ENCODER.query_embeddings(shop, "test", NoProcessing()))
    products = shop_runtime.get(ENCODER.product_embeddings(shop))
    scores = np.asarray(queries.vectors) @ np.asarray(products.vectors).T
    best = np.argsort(-scores, axis=1)[:, :100]
    expected = Run.from_arrays(
        best, np.take_along_axis(scores, best, 1), data.queries("test"), data.catalogue
    )
    assert run.frame["score"].to_numpy() == pytest.approx(
        expected.frame["score"].to_numpy(), abs=1e-5
    )


def test_the_judged_pool_has_the_same_scores(shop_runtime: Runtime, shop) -> None:
    whole = shop_runtime.get(DENSE.run(shop, ask(depth=500))).frame
    pool = shop_runtime.get(DENSE.run(shop, ask(pool="judged"))).frame
    judged = opened(shop_runtime.get(shop)).judgments("test").frame
    assert pool.height == judged.height
    joined = pool.join(whole, on=["query_id", "product_id"], suffix="_whole")
    assert joined.height == pool.height
    assert joined["score"].to_numpy() == pytest.approx(joined["score_whole"].to_numpy(), abs=1e-5)


def test_live_answers_are_the_batch_s(shop_runtime: Runtime, shop) -> None:
    run = shop_runtime.get(DENSE.run(shop, ask(depth=100)))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with DENSE.searcher(shop, ask(depth=100), shop_runtime) as live:
        rows, scores = live.search(queries.texts, 100)
    again = Run.from_arrays(rows, scores, queries, data.catalogue)
    assert again.frame.equals(run.frame)


def test_an_index_refuses_another_encoder_s_vectors(shop_runtime: Runtime, shop) -> None:
    index = shop_runtime.get(DENSE.index.build(ENCODER.product_embeddings(shop)))
    other = Hashing(dimensions=64, trigrams=0.0)
    asked = shop_runtime.get(other.query_embeddings(shop, "test", NoProcessing()))
    with pytest.raises(InputError, match=r"the index holds vectors of encoder \w{8}"):
        index.search(asked, 5)


def test_a_changed_encoder_shares_nothing(shop) -> None:
    other = Dense(encoder=Hashing(dimensions=64, query_prefix="query: "))
    one, two = (d.encoder.product_embeddings(shop) for d in (DENSE, other))
    assert one.artifact_fingerprint != two.artifact_fingerprint


def test_only_cosines_have_a_floor() -> None:
    assert floor_of(np.array([0.2, -1.0, 1.00001])) == -1.0
    assert floor_of(np.array([])) == -1.0
    assert floor_of(np.array([0.2, 7.5])) is None


def test_an_encoder_of_another_kind_is_refused() -> None:
    from neurosearch.encoder.colbert.published import PublishedColBERT
    from neurosearch.encoder.sentence import Sentence
    from neurosearch.retriever.late_interaction import LateInteraction

    with pytest.raises(InputError, match="encoder is a PublishedColBERT, which gives no vector"):
        Dense(PublishedColBERT())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="encoder is a Sentence, which gives no vectors of tokens"):
        LateInteraction(encoder=Sentence())  # type: ignore[arg-type]
