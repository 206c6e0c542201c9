"""Generative retrieval as a retriever: lists, buckets, pools, metrics of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.evaluation.gain import LabelGain
from neurosearch.evaluation.opened import opened
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.generator.expansion import IN_BUCKETS, expand
from neurosearch.generator.live import LiveGenerator
from neurosearch.generator.network import path_scores
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.generative import Generative
from neurosearch.retriever.multiphase import Multiphase
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule
from tests.requests import ask

LABELS = {"E": 3.0, "S": 1.0, "C": 0.0, "I": 0.0}
GAIN = LabelGain("shop", LABELS, LABELS, ("E",))
REQUEST = ask("test", depth=50, pool="catalogue")


@pytest.fixture(scope="module")
def system(tiny_model: str) -> Generative:
    generator = DensePrefix(
        gain=GAIN,
        encoder=Sentence(model=tiny_model, max_length=16),
        shape=Shape(width=32, heads=2, head_width=16, feed=64, layers=1),
        batch_size=64,
        max_length=16,
        schedule=Schedule(epochs=3, lr=3e-3, validations=1, patience=0),
    )
    tokenizer = RQKMeans(encoder=Hashing(dimensions=64), levels=2, codes=16)
    return Generative(generator=generator, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def live(system: Generative, shop_runtime: Runtime, shop) -> LiveGenerator:
    ids, trained = system._parts(shop)
    return LiveGenerator(shop_runtime.get(trained), shop_runtime.get(ids), shop_runtime)


def test_exactly_k_products_by_the_probability_of_their_ids(
    system, live, shop_runtime, shop
) -> None:
    run = shop_runtime.get(system.run(shop, REQUEST))
    counts = run.frame.group_by("query_id").len()["len"]
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    assert counts.to_list() == [50] * len(queries)
    # Scores are teacher forcing's, and nothing outside the list scores above its last product.
    ids = shop_runtime.get(system._parts(shop)[0])
    every = np.tile(np.asarray(ids.codes), (2, 1))
    asked = np.repeat([0, 1], len(ids))
    tokens = live.tokens(queries.texts[:2])
    forced = path_scores(live.network, tokens, asked, every, live.device).sum(axis=1)
    row_of = {name: row for row, name in enumerate(data.catalogue.ids.to_list())}
    for query in range(2):
        own = run.frame.filter(pl.col("query_id") == queries.ids[query])
        rows = [row_of[name] for name in own["product_id"]]
        scores = forced[query * len(ids) :][: len(ids)]
        assert own["score"].to_list() == pytest.approx(scores[rows].tolist(), abs=2e-4)
        if len(np.unique(ids.keys())) <= 50:  # the beam holds every ID: the search is exact
            others = np.delete(scores, rows)
            assert others.max() <= own["score"].min() + 2e-4


def test_live_answers_are_the_batch_ones(system, shop_runtime, shop) -> None:
    run = shop_runtime.get(system.run(shop, REQUEST))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with system.searcher(shop, REQUEST, shop_runtime) as searcher:
        rows, scores = searcher.search(queries.texts[:3], 50)
        few, _ = searcher.search(queries.texts[:3], 5)  # of the same beams
    assert (few == rows[:, :5]).all()
    for place in range(3):
        own = run.frame.filter(pl.col("query_id") == queries.ids[place])
        assert scores[place] == pytest.approx(own["score"].to_numpy(), abs=1e-5)
        found = data.catalogue.ids.gather(rows[place])
        assert len(set(found) & set(own["product_id"])) >= 48  # equal scores may come in or not


def test_the_judged_pool_is_ranked_whole(system, shop_runtime, shop) -> None:
    request = ask("test", depth=50, pool="judged")
    run = shop_runtime.get(system.run(shop, request))
    judged = opened(shop_runtime.get(shop)).judgments("test").frame
    assert run.frame.height == judged.height
    assert system.diagnosis(shop, request) is None


def test_metrics_of_its_own(system, live, shop_runtime, shop) -> None:
    frame = shop_runtime.get(system.diagnosis(shop, REQUEST))
    data, ids = shop_runtime.get(shop), shop_runtime.get(system._parts(shop)[0])
    queries = data.queries("test")
    relevant = GAIN.graded(opened(data).judgments("test")).filter("relevant")
    row_of = {name: row for row, name in enumerate(data.catalogue.ids.to_list())}
    bound = live.search(queries.texts, 10)
    known = set(map(tuple, np.asarray(ids.codes).tolist()))
    free = live.search(queries.texts, 10, constrained=False)
    first = relevant["query_id"][0]
    place = queries.ids.to_list().index(first)
    rows = [row_of[name] for name in relevant.filter(query_id=first)["product_id"]]
    told = frame.filter(query_id=first).row(0, named=True)
    valid = [tuple(codes) in known for codes in free.codes[place].tolist()]
    assert told["validity"] == pytest.approx(np.mean(valid))
    firsts = {int(ids.codes[row, 0]) for row in rows}
    assert told["prefix@1"] == float(int(bound.codes[place, 0, 0]) in firsts)
    assert told["any prefix@1"] == float(bool(firsts & set(bound.codes[place, :, 0].tolist())))
    tokens = live.tokens(queries.texts)
    asked = np.full(len(rows), place)
    losses = -path_scores(live.network, tokens, asked, np.asarray(ids.codes)[rows], live.device)
    assert told["CE@2"] == pytest.approx(losses[:, 1].mean(), abs=1e-4)


def test_unconstrained_lists_lack_what_is_no_id(system, shop_runtime, shop) -> None:
    free = replace(system, constrained=False)
    run = shop_runtime.get(free.run(shop, REQUEST)).frame
    bound = shop_runtime.get(system.run(shop, REQUEST)).frame
    counts = run.group_by("query_id").len()["len"]
    assert counts.max() <= 50
    both = run.join(bound, on=["query_id", "product_id"], suffix=" bound")
    assert both["score"].to_list() == pytest.approx(both["score bound"].to_list(), abs=1e-4)
    assert "unconstrained" in free.label()


def test_buckets_are_expanded_in_the_order_of_vectors() -> None:
    # IDs 0, 1, 2 have products {4, 1}, {0} and {2, 3}.
    buckets = np.array([0, 2, 3, 5]), np.array([4, 1, 0, 2, 3])
    products = np.array([[1, 0], [0.6, 0.8], [0, 1], [1, 0], [0.8, 0.6]], dtype=np.float32)
    vectors = np.array([[1, 0]], dtype=np.float32), products
    scores, leaves = np.array([[-0.5, -1.0, -np.inf]]), np.array([[2, 0, 1]])
    rows, marks = expand(scores, leaves, buckets, 4, vectors, IN_BUCKETS)
    assert rows.tolist() == [[3, 2, 4, 1]]
    assert marks[0].tolist() == pytest.approx(
        [-0.5 + 1e-4, -0.5, -1 + 0.8e-4, -1 + 0.6e-4], abs=1e-6
    )
    rows, _ = expand(scores, leaves, buckets, 3, vectors, IN_BUCKETS)
    assert rows.tolist() == [[3, 2, 4]]
    # A heavy cosine lets the products of all beams compete: -1 + .8 · 10 against -.5 + 0.
    rows, marks = expand(scores, leaves, buckets, 5, vectors, 10.0)
    assert rows.tolist() == [[3, 4, 1, 2, -1]]
    assert marks[0, :2].tolist() == pytest.approx([9.5, 7.0])


def test_long_sums_leave_the_order_of_a_bucket_alone() -> None:
    rng = np.random.default_rng(0)
    products = rng.normal(size=(200, 8)).astype(np.float32)
    products /= np.linalg.norm(products, axis=1, keepdims=True)
    asked = products[:1]
    buckets = np.array([0, 200]), np.arange(200)
    rows, marks = expand(
        np.array([[-20.0]], dtype=np.float32), np.array([[0]]), buckets, 10, (asked, products), 1e-4
    )
    assert rows[0].tolist() == np.argsort(-(products @ asked[0]))[:10].tolist()
    assert len(set(marks[0])) == 10


def test_what_is_no_leaf_gives_nothing() -> None:
    buckets = np.array([0, 1]), np.array([0])
    rows, _ = expand(np.zeros((2, 1)), np.array([[-1], [0]]), buckets, 2, None)
    assert rows.tolist() == [[-1, -1], [0, -1]]


def test_what_cannot_be_is_refused(system: Generative) -> None:
    with pytest.raises(InputError, match=r"beam must be at least 1"):
        replace(system, beam=0)
    with pytest.raises(InputError, match=r"cosine_weight"):
        replace(system, cosine_weight=-1.0)


def test_a_generator_writes_the_prefixes_of_multiphase(system, live, shop_runtime, shop) -> None:
    phases = Multiphase(tokenizer=system.tokenizer, generator=system.generator, depth=1, probes=3)
    run = shop_runtime.get(phases.run(shop, REQUEST))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    encoder = system.tokenizer.encoder
    asked = shop_runtime.get(encoder.query_embeddings(shop, "test", NoProcessing())).vectors
    products = shop_runtime.get(encoder.product_embeddings(shop)).vectors
    ids = shop_runtime.get(system._parts(shop)[0])
    written = live.search(queries.texts, 3, depth=1).codes[:, :, 0]
    for place in range(4):
        rows = np.flatnonzero(np.isin(ids.codes[:, 0], written[place]))
        own = run.frame.filter(pl.col("query_id") == queries.ids[place])
        if len(rows) >= 50:  # enough: exactly the best below the three codes
            wanted = np.sort(products[rows] @ asked[place])[::-1][:50]
            assert own["score"].to_numpy() == pytest.approx(wanted, abs=1e-5)
        assert own.height == 50
