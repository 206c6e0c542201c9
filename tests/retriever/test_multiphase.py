"""Multiphase retrieval: equal to IVF with the same cells, exact with all of them, never short."""

from __future__ import annotations

import faiss
import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import SCORED
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.multiphase import Multiphase
from neurosearch.tokenizer.rqkmeans import RQKMeans
from tests.requests import ask

ENCODER = Hashing(dimensions=64)
TOKENIZER = RQKMeans(encoder=ENCODER, levels=3, codes=12)
REQUEST = ask("test", depth=100, pool="catalogue")


def parts(runtime: Runtime, shop, depth: int):
    lists = runtime.get(Multiphase(tokenizer=TOKENIZER, depth=depth)._lists(shop))
    asked = np.array(runtime.get(ENCODER.query_embeddings(shop, "test", NoProcessing())).vectors)
    products = np.array(runtime.get(ENCODER.product_embeddings(shop)).vectors)
    return lists, asked, products


@pytest.mark.parametrize("probes", [1, 3, 12])
def test_one_code_is_ivf_with_the_same_centroids(shop_runtime: Runtime, shop, probes: int) -> None:
    lists, asked, products = parts(shop_runtime, shop, 1)
    nodes, compared = lists.probe(asked, [probes])
    rows, scores = lists.nearest(asked, nodes, 20)
    # FAISS's own IVF, whose centroids are the directions of the codewords that were learnt.
    quantizer = shop_runtime.get(TOKENIZER.fitted(shop))
    book = np.ascontiguousarray(quantizer.codebooks[0])
    book = book / np.linalg.norm(book, axis=1, keepdims=True)
    coarse = faiss.IndexFlatIP(64)
    coarse.add(book)
    index = faiss.IndexIVFFlat(coarse, 64, len(book), faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    cells = quantizer.assign(products)[:, 0].astype(np.int64)
    numbers = np.arange(len(products))
    index.add_core(
        len(products), faiss.swig_ptr(products), faiss.swig_ptr(numbers), faiss.swig_ptr(cells)
    )
    index.nprobe = probes
    wanted, places = index.search(asked, 20)
    assert scores == pytest.approx(wanted, abs=1e-5)
    assert (rows == places).mean() > 0.98  # the rest are ties
    assert (compared == len(lists.nodes[0])).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_with_every_prefix_it_is_exact(shop_runtime: Runtime, shop, depth: int) -> None:
    system = Multiphase(tokenizer=TOKENIZER, depth=depth, probes=10_000)
    run = shop_runtime.get(system.run(shop, REQUEST))
    exact = shop_runtime.get(Dense(encoder=ENCODER).run(shop, REQUEST))
    assert run.frame["score"].to_numpy() == pytest.approx(exact.frame["score"].to_numpy(), abs=1e-6)


def test_probing_goes_down_the_tree(shop_runtime: Runtime, shop) -> None:
    lists, asked, products = parts(shop_runtime, shop, 2)
    nodes, compared = lists.probe(asked[:5], [2, 2])
    first, second = lists.trie.prefixes(1), lists.trie.prefixes(2)
    for query in range(5):

        def direction(vectors: np.ndarray) -> np.ndarray:
            total = vectors.sum(axis=0)
            return total / np.linalg.norm(total)

        means = [direction(products[first == n]) for n in range(first.max() + 1)]
        kept = np.argsort([-asked[query] @ m for m in means])[:2]
        below = np.unique(second[np.isin(first, kept)])
        scores = [asked[query] @ direction(products[second == n]) for n in below]
        wanted = below[np.argsort(-np.array(scores))[:2]]
        assert nodes[query].tolist() == wanted.tolist()
        assert compared[query] == len(means) + len(below)


def test_too_few_products_shorten_the_prefixes(shop_runtime: Runtime, shop) -> None:
    lists, asked, _ = parts(shop_runtime, shop, 3)
    nodes, _ = lists.probe(asked, [1, 1, 1])
    for k in (1, 5, 40, 499, 500, 10_000):
        grown = lists.enough(nodes, k)
        for own, before in zip(grown, nodes, strict=True):
            held = np.isin(lists.trie.prefixes(3), own[own >= 0]).sum()
            assert held >= min(k, 500)
            if lists.sizes[before[before >= 0]].sum() < k < 40:  # no more than one code shorter
                parent = lists.trie.levels[2].parent.numpy()
                assert len(set(parent[own[own >= 0]])) >= 1
    # By the vector, the next best prefixes come first: no more than it takes.
    first, _ = parts(shop_runtime, shop, 1)[0].probe(asked, [1], 100)
    sizes = parts(shop_runtime, shop, 1)[0].sizes
    for own in first:
        held = sizes[own[own >= 0]]
        assert held.sum() >= 100 and held[:-1].sum() < 100
    run = shop_runtime.get(Multiphase(tokenizer=TOKENIZER, depth=3, probes=1).run(shop, REQUEST))
    assert run.frame.group_by("query_id").len()["len"].unique().to_list() == [100]


def test_what_is_scored_is_told(shop_runtime: Runtime, shop) -> None:
    system = Multiphase(tokenizer=TOKENIZER, depth=1, probes=2)
    share = shop_runtime.get(system.diagnosis(shop, REQUEST))
    lists, asked, _ = parts(shop_runtime, shop, 1)
    nodes, _ = lists.probe(asked, [2], 100)
    first = lists.trie.prefixes(1)
    held = [np.isin(first, own[own >= 0]).sum() for own in nodes]
    wanted = 100 * (np.array(held) + len(lists.nodes[0])) / 500
    assert share[SCORED].to_numpy() == pytest.approx(wanted)
    flat = Dense(encoder=ENCODER).diagnosis(shop, REQUEST)
    assert shop_runtime.get(flat)[SCORED].unique().to_list() == [100.0]


def test_live_answers_are_the_batch_ones(shop_runtime: Runtime, shop) -> None:
    system = Multiphase(tokenizer=TOKENIZER, depth=2, probes=4)
    run = shop_runtime.get(system.run(shop, REQUEST)).frame
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with system.searcher(shop, REQUEST, shop_runtime) as searcher:
        rows, scores = searcher.search(queries.texts[:3], 100)
        few, _ = searcher.search(queries.texts[:3], 5)  # below the same prefixes
    assert (few == rows[:, :5]).all()
    for place in range(3):
        own = run.filter(pl.col("query_id") == queries.ids[place])["score"].to_numpy()
        assert scores[place] == pytest.approx(own, abs=1e-5)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"depth.*4: 1 to tokenizer\.levels=3"):
        Multiphase(tokenizer=TOKENIZER, depth=4)
    with pytest.raises(InputError, match=r"probes must be at least 1"):
        Multiphase(tokenizer=TOKENIZER, probes=0)
