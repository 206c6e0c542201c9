"""Products by their codes: exact sums, beams, and the decoder that begins there."""

from __future__ import annotations

import numpy as np
import pytest

from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.codes import CodeRanker, Codes
from neurosearch.retriever.dense import Dense
from neurosearch.tokenizer.atomic import Atomic
from neurosearch.tokenizer.codewords import Codewords
from neurosearch.tokenizer.random import RandomIds
from neurosearch.tokenizer.rqkmeans import RQKMeans

ENCODER = Hashing(dimensions=64)
TOKENIZER = RQKMeans(encoder=ENCODER, levels=3, codes=16)
REQUEST = RetrievalRequest(NoProcessing(), "test", 100)


def words_of(tokenizer, shop, runtime: Runtime):
    ids = tokenizer.semantic_ids(shop)
    vectors = ENCODER.product_embeddings(shop)
    return runtime.get(ids), runtime.get(Codewords(ids, vectors)), runtime.get(vectors).vectors


def test_codewords_are_the_quantizers_own(shop_runtime: Runtime, shop) -> None:
    """k-means ends where centroids are the means of what they were given."""
    ids, words, vectors = words_of(TOKENIZER, shop, shop_runtime)
    own = shop_runtime.get(TOKENIZER.fitted(shop))
    *_, theirs = own.decode(np.asarray(ids.codes))
    mine = words.decode(np.asarray(ids.codes))
    error = np.square(vectors - mine).sum()
    assert error <= np.square(vectors - theirs).sum() * 1.02
    # A product's residual after the first level is what its cluster's mean leaves.
    first = np.asarray(ids.codes[:, 0]) == ids.codes[0, 0]
    mean = vectors[first].mean(axis=0)
    assert words.decode(np.asarray(ids.codes[:1, :1]))[0] == pytest.approx(mean, abs=1e-5)


def test_random_ids_stand_for_little(shop_runtime: Runtime, shop) -> None:
    tokenizer = RandomIds(encoder=ENCODER, levels=2, codes=8)
    ids = tokenizer.semantic_ids(shop)
    artifact = Codewords(ids, ENCODER.product_embeddings(shop))
    shop_runtime.get(artifact)
    shares = shop_runtime.store.manifest(artifact)["details"]["variance that the levels explain"]
    assert shares[-1] < 0.1


def test_all_ids_are_ranked_by_what_they_stand_for(shop_runtime: Runtime, shop) -> None:
    ids, words, vectors = words_of(TOKENIZER, shop, shop_runtime)
    queries = shop_runtime.get(ENCODER.query_embeddings(shop, "test", NoProcessing())).vectors
    ranker = CodeRanker(ids, words, vectors, None, 100, shop_runtime)
    rows, _ = ranker.search(queries, 10)
    stood = words.decode(np.asarray(ids.codes))
    expected = queries @ stood.T + 1e-4 * (queries @ vectors.T)
    for query, found in enumerate(rows):
        best = np.sort(expected[query])[::-1][:10]
        assert expected[query][found] == pytest.approx(best, abs=2e-5)


def test_a_beam_of_all_ids_is_exhaustive(shop_runtime: Runtime, shop) -> None:
    ids, words, vectors = words_of(TOKENIZER, shop, shop_runtime)
    queries = shop_runtime.get(ENCODER.query_embeddings(shop, "test", NoProcessing())).vectors[:8]
    exact = CodeRanker(ids, words, vectors, None, 100, shop_runtime).search(queries, 50)[0]
    beam = CodeRanker(ids, words, vectors, 10_000, 100, shop_runtime).search(queries, 50)[0]
    stood = words.decode(np.asarray(ids.codes)) + 1e-4 * vectors
    for query in range(len(queries)):
        scores = stood @ queries[query]
        assert scores[exact[query]] == pytest.approx(scores[beam[query]], abs=2e-5)


def test_an_id_of_its_own_is_dense_retrieval(shop_runtime: Runtime, shop) -> None:
    """One level with a code for every product stands for the product's own vector."""
    codes = Codes(tokenizer=Atomic(encoder=ENCODER))
    one = shop_runtime.get(codes.run(shop, REQUEST)).frame
    other = shop_runtime.get(Dense(encoder=ENCODER).run(shop, REQUEST)).frame
    # Products of equal vectors may change places: scores say which are as good.
    both = one.join(other, on=["query_id", "rank"], suffix=" of dense")
    assert both.height == other.height
    mine, theirs = both["score"].to_numpy(), both["score of dense"].to_numpy()
    assert mine == pytest.approx(theirs * (1 + 1e-4), abs=1e-5)


def test_live_lists_are_the_batch(shop_runtime: Runtime, shop) -> None:
    for beam in (None, 20):
        system = Codes(tokenizer=TOKENIZER, beam=beam)
        run = shop_runtime.get(system.run(shop, REQUEST))
        data = shop_runtime.get(shop)
        texts = data.queries("test").texts[:5]
        with system.searcher(shop, REQUEST, shop_runtime) as live:
            rows, _ = live.search(texts, 10)
        for query, found in zip(data.queries("test").ids[:5], rows, strict=True):
            mine = run.frame.filter(run.frame["query_id"] == query)["product_id"].to_list()[:10]
            assert [data.catalogue.ids[int(row)] for row in found if row >= 0] == mine
