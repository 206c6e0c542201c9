"""Explanations add up: every part by an independent computation, every sum to the score shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import neurosearch as ns
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.explainer.base import Explained, Explanation, Part, Scene
from neurosearch.explainer.extractive import Extractive
from neurosearch.fusion.combmnz import CombMNZ
from neurosearch.fusion.convex import Convex
from neurosearch.fusion.rrf import RRF
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.feedback import Feedback
from neurosearch.retriever.hybrid import Hybrid
from neurosearch.retriever.vector_feedback import VectorFeedback
from tests.requests import ask

QUERY = "red leather armchair"
FIELDS = {"title": 2.0, "contents": 0.5, "colour": 1.5}


def whys(
    system: Any, shop: Any, runtime: Runtime, k: int = 5
) -> tuple[np.ndarray, np.ndarray, list[Explanation]]:
    scene = Scene(shop, ask(depth=50), runtime)
    with Extractive().opened(system, scene) as live:
        assert isinstance(live, Explained)
        rows, scores = live.searcher.search([QUERY], k)
        kept = rows[0] >= 0
        return rows[0][kept], scores[0][kept], live.explain(QUERY, rows[0][kept], scores[0][kept])


@pytest.mark.parametrize(
    "system",
    [
        BM25(),
        BM25(boosts=FIELDS),
        BM25(engine="bm25s", boosts=FIELDS),
        Feedback(documents=3, terms=5, weight=0.5),
        Feedback(engine="bm25s", model="bo1", documents=3, terms=5, weight=0.5),
        Dense(Sentence()),
        VectorFeedback(Sentence(), documents=3, beta=0.5),
    ],
    ids=lambda system: system.label(),
)
def test_parts_add_up_to_the_score(system: Any, shop: Any, shop_runtime: Runtime) -> None:
    rows, scores, found = whys(system, shop, shop_runtime)
    assert len(rows) == len(found) == 5
    for score, why in zip(scores, found, strict=True):
        assert why.is_exact and why.score == score
        assert why.total == pytest.approx(float(score), rel=1e-5)
        for part in why.parts:
            if part.parts:
                assert sum(below.value for below in part.parts) == pytest.approx(part.value)


def test_terms_of_fields_by_hand(shop: Any, shop_runtime: Runtime) -> None:
    """ln(1 + (N - n + .5)/(n + .5)) · f/(f + k1(1 - b + b·l/mean l)), from counts of our own."""
    system = BM25(engine="bm25s", boosts={"title": 2.0}, k1=1.2, b=0.75)
    rows, _, found = whys(system, shop, shop_runtime, k=1)
    catalogue = shop_runtime.get(shop).catalogue
    tokens = system.analyzer.tokenizer()(catalogue.all_texts(("title",)))
    mean = np.mean([len(title) for title in tokens])
    for part in found[0].parts:
        holding = sum(part.name in title for title in tokens)
        title = tokens[rows[0]]
        often = title.count(part.name)
        idf = np.log(1 + (len(tokens) - holding + 0.5) / (holding + 0.5))
        bound = 1.2 * (1 - 0.75 + 0.75 * len(title) / mean)
        assert part.value == pytest.approx(2.0 * idf * often / (often + bound), rel=1e-5)
        (field,) = part.parts
        assert field.name == "title"


def test_fed_back_terms_are_named(shop: Any, shop_runtime: Runtime) -> None:
    _, _, found = whys(Feedback(documents=3, terms=8, weight=0.5), shop, shop_runtime)
    notes = {part.name: part.note for part in found[0].parts}
    assert any("fed back" in note for note in notes.values())
    assert all("fed back" not in notes.get(token, "") for token in ("red", "armchair"))


def test_words_of_a_vector_are_its_states(shop: Any, shop_runtime: Runtime) -> None:
    """sentence-transformers' token states, pooled here, give the same parts."""
    from sentence_transformers import SentenceTransformer

    from neurosearch.nn.pretrained import local_folder

    rows, _, found = whys(Dense(Sentence()), shop, shop_runtime, k=1)
    folder = local_folder(Sentence().model)
    model = SentenceTransformer(str(folder), device="cpu")
    title = shop_runtime.get(shop).catalogue.all_texts(("title",))[rows[0]]
    (states,) = model.encode([QUERY], output_value="token_embeddings")
    vector = model.encode([title])[0]
    states = states.numpy()
    length = np.linalg.norm(states.mean(axis=0))
    expected = states @ vector / (len(states) * length)
    words = ["[CLS]", "red", "leather", "armchair", "[SEP]"]
    pieces = model.tokenizer.tokenize(QUERY)
    assert len(pieces) + 2 == len(expected)
    by_name = {part.name: part.value for part in found[0].parts}
    assert set(by_name) == set(words)
    for word, value in (("[CLS]", expected[0]), ("red", expected[1]), ("[SEP]", expected[-1])):
        assert by_name[word] == pytest.approx(value, abs=1e-5)


def test_hybrids_name_their_members(shop: Any, shop_runtime: Runtime) -> None:
    members = {"words": BM25(), "vectors": Dense(Hashing())}
    system = Hybrid(members, RRF(), ns.gain("shop"))
    _, scores, found = whys(system, shop, shop_runtime)
    for why in found:
        assert why.is_exact
        for part in why.parts:
            rank = int(part.note.split(",")[0].removeprefix("rank "))
            assert part.value == pytest.approx(1 / (60 + rank))
            assert part.of is not None
            assert part.of.is_exact is (part.name == "words")  # hashed vectors don't come apart
    assert scores[0] == pytest.approx(found[0].total)


@pytest.mark.parametrize("fusion", [CombMNZ(), Convex({"words": 0.3, "vectors": 0.7}, "zmuv")])
def test_every_fusion_comes_apart(fusion: Any, shop: Any, shop_runtime: Runtime) -> None:
    members = {"words": BM25(), "vectors": Dense(Hashing())}
    _, scores, found = whys(Hybrid(members, fusion, ns.gain("shop")), shop, shop_runtime)
    assert [why.total for why in found] == pytest.approx(scores.tolist(), rel=1e-5)


def test_what_cannot_come_apart_is_called_approximate(shop: Any, shop_runtime: Runtime) -> None:
    _, _, found = whys(Dense(Hashing()), shop, shop_runtime)
    assert not any(why.is_exact for why in found)
    assert {part.name for part in found[0].parts} == {"red", "leather", "armchair"}


def test_a_sum_that_is_off_is_not_exact() -> None:
    why = Explanation(1.0, (Part("a", 0.6), Part("b", 0.4)))
    assert why.is_exact and not replace(why, constant=1e-3).is_exact
    assert not replace(why, probed=True).is_exact
