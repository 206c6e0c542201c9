"""Explanations of what is trained: codes, term weights, stages and features add up to the score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import neurosearch as ns
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.explainer.base import Explanation, Scene
from neurosearch.explainer.codes import code_names
from neurosearch.explainer.extractive import Extractive
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.reranker.biencoder import BiEncoderReranker
from neurosearch.reranker.lambdamart import LambdaMART
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.generative import Generative
from neurosearch.retriever.reranked import Reranked
from neurosearch.retriever.sparse import Sparse
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule
from tests.requests import ask

GAIN = ns.gain("shop")
BM25S = BM25(engine="bm25s")
ONE_PASS = Schedule(epochs=1, validations=1, patience=0)


def whys(system: Retriever, shop: Any, runtime: Runtime, k: int = 4) -> list[Explanation]:
    scene = Scene(shop, ask(depth=100), runtime)
    with Extractive().opened(system, scene) as live:
        rows, scores = live.searcher.search(["red leather armchair"], k)
        kept = rows[0] >= 0
        found = live.explain("red leather armchair", rows[0][kept], scores[0][kept])
    assert [why.score for why in found] == scores[0][kept].tolist()
    return found


def test_codes_of_a_written_id(tiny_model: str, shop: Any, shop_runtime: Runtime) -> None:
    generator = DensePrefix(
        gain=GAIN,
        encoder=Sentence(model=tiny_model, max_length=16),
        shape=Shape(width=32, heads=2, head_width=16, feed=64, layers=1),
        batch_size=64,
        max_length=16,
        schedule=ONE_PASS,
    )
    tokenizer = RQKMeans(encoder=Hashing(dimensions=64), levels=2, codes=16)
    for weight in (None, 2.0):
        system = Generative(generator=generator, tokenizer=tokenizer, cosine_weight=weight)
        for why in whys(system, shop, shop_runtime):
            assert why.total == pytest.approx(why.score, abs=2e-4)
            assert [part.name.split(":")[0] for part in why.parts] == ["code 1", "code 2", "cosine"]


def test_names_of_codes_by_hand() -> None:
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 0]])
    ids = SemanticIds(codes, (2, 2), "t")
    titles = ["red mug cup", "blue mug cup", "red sofa", "blue sofa"]
    # Code 0 is mug and cup, which the others lack; both colours are everywhere.
    assert code_names(ids, titles, 0) == ["cup mug blue (2 products)", "cup mug red (1 products)"]


def test_terms_of_learned_weights(tiny_model: str, shop: Any, shop_runtime: Runtime) -> None:
    encoder = ns.Splade(gain=GAIN, model=tiny_model, batch_size=32, schedule=ONE_PASS, warm_up=None)
    for why in whys(Sparse(encoder=encoder), shop, shop_runtime):
        assert why.total == pytest.approx(why.score, rel=1e-4)
        assert all(part.value > 0 for part in why.parts)


@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_stages_of_a_reranked_list(weight: float, shop: Any, shop_runtime: Runtime) -> None:
    reranker = BiEncoderReranker(Hashing())
    system = Reranked(BM25S, reranker, GAIN, depth=3, weight=weight)
    *head, deeper = whys(system, shop, shop_runtime)
    for why in head:
        assert why.constant == 2.0 and why.total == pytest.approx(why.score, rel=1e-5)
        assert {part.name for part in why.parts} == (
            {reranker.label()} if weight == 1.0 else {reranker.label(), "first stage"}
        )
    assert max(why.score for why in head) <= 3.0
    (part,) = deeper.parts
    assert part.note == "rank 4, below the 3 that were re-ranked" and deeper.score < 2
    assert part.of is not None and part.of.is_exact  # BM25's own terms


def test_features_of_trees(shop: Any, shop_runtime: Runtime) -> None:
    trees = LambdaMART(gain=GAIN, encoders={}, folds=0, min_data=5, trees=20)
    for why in whys(Reranked(BM25S, trees, GAIN, depth=20, weight=1.0), shop, shop_runtime):
        (part,) = why.parts
        assert part.of is not None and part.of.is_exact
        assert part.of.total == pytest.approx(part.of.score, rel=1e-5)
