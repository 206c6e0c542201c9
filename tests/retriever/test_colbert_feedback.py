"""Feedback of token vectors: clusters and weights by hand; nothing at beta 0; live as in batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import neurosearch as ns
from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import TokenEmbeddings
from neurosearch.explainer.base import Scene
from neurosearch.explainer.extractive import Extractive
from neurosearch.retriever.colbert_feedback import ColbertFeedback, Feedback, Numbers
from neurosearch.retriever.late_interaction import LateInteraction
from neurosearch.training.schedule import Schedule
from tests.requests import ask

EYE = np.eye(4, dtype=np.float32)
# Two products: tokens 7 and 5; 5 and 9. Token 9 is the rarest, 5 stands in both.
PRODUCTS = TokenEmbeddings(EYE[[0, 1, 1, 2]], np.array([0, 2, 4]), "e")
IDF = np.zeros(10)
IDF[[5, 7, 9]] = 0.1, 1.0, 2.0
NAMES = np.array([7, 5, 5, 9]), IDF


def test_the_rarest_clusters_join_by_hand() -> None:
    queries = TokenEmbeddings(EYE[[3]], np.array([0, 1]), "e")
    feedback = Feedback(PRODUCTS, NAMES, Numbers(2, 24, 2, 0.5))
    found = feedback.joined(queries, np.array([[0, 1]]))
    # Three distinct vectors are three clusters; the weights are .5 · 2 and .5 · 1.
    np.testing.assert_allclose(found.vectors, [EYE[3], 1.0 * EYE[2], 0.5 * EYE[0]], atol=1e-6)
    assert found.offsets.tolist() == [0, 3]
    first = replace(feedback, numbers=Numbers(1, 24, 2, 0.5)).joined(queries, np.array([[0, 1]]))
    np.testing.assert_allclose(first.vectors[1:], [0.5 * EYE[0], 0.05 * EYE[1]], atol=1e-6)


def test_a_query_that_finds_nothing_stays_as_it_is() -> None:
    queries = TokenEmbeddings(EYE[[3, 1]], np.array([0, 1, 2]), "e")
    feedback = Feedback(PRODUCTS, NAMES, Numbers(2, 24, 1, 1.0))
    found = feedback.joined(queries, np.array([[-1, -1], [0, -1]]))
    assert found.offsets.tolist() == [0, 1, 3]


def system(tiny_model: str, **options: Any) -> ColbertFeedback:
    encoder = ns.ColBERT(
        gain=ns.gain("shop"),
        model=tiny_model,
        dimensions=16,
        markers=(None, None),
        batch_size=32,
        schedule=Schedule(epochs=1.0, validations=1),
    )
    return ColbertFeedback(encoder=encoder, documents=2, clusters=6, terms=3, **options)


def test_live_answers_are_the_batch_s(tiny_model: str, shop: Any, shop_runtime: Runtime) -> None:
    recipe, request = system(tiny_model, beta=0.5), ask(depth=20)
    run = shop_runtime.get(recipe.run(shop, request))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with recipe.searcher(shop, request, shop_runtime) as live:
        rows, scores = live.search(queries.texts, 20)
    again = Run.from_arrays(rows, scores, queries, data.catalogue, 20).frame
    np.testing.assert_allclose(again["score"].to_numpy(), run.frame["score"].to_numpy(), atol=1e-4)
    plain = shop_runtime.get(LateInteraction(encoder=recipe.encoder).run(shop, request)).frame
    assert not plain["product_id"].equals(run.frame["product_id"])
    none = shop_runtime.get(replace(recipe, beta=0.0).run(shop, request)).frame
    assert none["product_id"].equals(plain["product_id"])
    np.testing.assert_allclose(none["score"].to_numpy(), plain["score"].to_numpy(), atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_explanations_add_up(
    beta: float, tiny_model: str, shop: Any, shop_runtime: Runtime
) -> None:
    scene = Scene(shop, ask(depth=20), shop_runtime)
    with Extractive().opened(system(tiny_model, beta=beta), scene) as live:
        rows, scores = live.searcher.search(["red leather armchair"], 3)
        found = live.explain("red leather armchair", rows[0], scores[0])
    for score, why in zip(scores[0], found, strict=True):
        assert why.total == pytest.approx(float(score), abs=1e-3)  # vectors of half precision
        assert sum("fed back" in part.name for part in why.parts) == (3 if beta else 0)


def test_bad_settings(tiny_model: str, shop: Any) -> None:
    pooled = replace(system(tiny_model).encoder, pool_factor=2)
    with pytest.raises(InputError, match="encoder must be colbert with pool_factor=1"):
        ColbertFeedback(encoder=pooled)
    with pytest.raises(InputError, match="ranks no judged pool"):
        system(tiny_model).run(shop, ask(pool="judged"))
