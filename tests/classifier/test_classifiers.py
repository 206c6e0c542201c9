"""Classifiers: the best thresholds by trying all, adjustment by hand, tables of the shop."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.classifier.constant import Constant
from neurosearch.classifier.cross_encoder import CrossClassifier
from neurosearch.classifier.thresholds import Thresholds, best_cuts, climbed
from neurosearch.classifier.trees import Trees, adjusted
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.biencoder.recipe import BiEncoder
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.classes import Classes
from neurosearch.evaluation.gain import LabelGain
from neurosearch.evaluation.labels import MACRO, MICRO, LabelsProtocol, f1_by_class
from neurosearch.evaluation.opened import opened
from neurosearch.query.none import NoProcessing
from neurosearch.reranker.cross_encoder.network import LiveCross
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.classified import Classified
from neurosearch.retriever.dense import Dense
from neurosearch.training.schedule import Schedule

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
WORDS = BM25(engine="bm25s")
REQUEST = RetrievalRequest(NoProcessing(), "test", 100, "judged")


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=14),
    st.integers(2, 3),
)
@settings(deadline=None, max_examples=150)
def test_thresholds_are_the_best_there_are(pairs: list[tuple[int, int]], classes: int) -> None:
    pairs = sorted(pairs)
    scores = np.array([float(score) for score, _ in pairs])
    wanted = np.minimum(np.array([label for _, label in pairs]), classes - 1)
    cuts = best_cuts(scores, wanted, classes)
    assert cuts == sorted(cuts) and len(cuts) == classes - 1
    found = (np.searchsorted(cuts, scores) == wanted).sum()
    options = [-1.0, *(s + 0.5 for s in range(7))]
    best = max(
        (np.searchsorted(some, scores) == wanted).sum()
        for some in itertools.combinations_with_replacement(options, classes - 1)
    )
    assert found == best


def test_macro_thresholds_are_no_worse_in_macro_f1() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.choice(4, 300, p=[0.7, 0.2, 0.07, 0.03])
    scores = wanted + rng.normal(size=300)
    order = np.argsort(scores)
    scores, wanted = scores[order], wanted[order]
    cuts = best_cuts(scores, wanted, 4)
    moved = climbed(scores, wanted, cuts)

    def macro(some: list[float]) -> float:
        return float(np.mean(f1_by_class(wanted, np.searchsorted(some, scores), 4)))

    assert moved == sorted(moved) and macro(moved) > macro(cuts)


def test_adjustment_by_hand() -> None:
    shares = np.array([[0.6, 0.4]])
    assert adjusted(shares, np.array([0.8, 0.2]), 0.0) == pytest.approx(shares)
    # 0.6 / 0.8 and 0.4 / 0.2 are 0.75 and 2.
    assert adjusted(shares, np.array([0.8, 0.2]), 1.0)[0] == pytest.approx([0.75 / 2.75, 2 / 2.75])


def measured(classifier, shop, runtime: Runtime, **changes) -> pl.DataFrame:
    protocol = LabelsProtocol(gain=GAIN, **changes)
    return runtime.get(protocol.metrics(Classified(classifier), shop, NoProcessing()))


def test_the_constant_is_the_share_of_its_class(shop_runtime: Runtime, shop) -> None:
    labels = opened(shop_runtime.get(shop)).judgments("test").frame["label"]
    for name in ("I", "E"):
        frame = measured(Constant(name=name), shop, shop_runtime)
        share = (labels == name).mean()
        assert frame[MICRO].mean() == pytest.approx(share)
        assert frame[MACRO].drop_nulls().to_list() == [pytest.approx(2 * share / (1 + share) / 4)]
    train = shop_runtime.get(shop).judgments("train").frame["label"].value_counts(sort=True)
    most = measured(Constant(), shop, shop_runtime)[MICRO].mean()
    assert most == pytest.approx((labels == train["label"][0]).mean())


def test_never_a_substitute(shop_runtime: Runtime, shop) -> None:
    labels = opened(shop_runtime.get(shop)).judgments("test").frame["label"]
    frame = measured(Constant(name="E"), shop, shop_runtime, positive="S")
    assert frame[MICRO].mean() == pytest.approx((labels != "S").mean())
    assert "F1 not S" in frame.columns
    with pytest.raises(InputError, match="no class of I, C, S, E"):
        LabelsProtocol(gain=GAIN, positive="X")


def test_scores_and_trees_beat_the_constant(shop_runtime: Runtime, shop) -> None:
    constant = measured(Constant(), shop, shop_runtime)
    encoder = Hashing(dimensions=64)
    for classifier in (
        Thresholds(retriever=WORDS, average="macro"),
        Trees(retriever=WORDS, encoders={"hashed": encoder}, trees=60, min_data=10, adjust=True),
    ):
        frame = measured(classifier, shop, shop_runtime)
        assert frame[MACRO].drop_nulls()[0] > constant[MACRO].drop_nulls()[0] + 0.05
    shares = shop_runtime.get(classifier.probabilities(shop, REQUEST))
    assert shares.select(
        pl.sum_horizontal(pl.selectors.starts_with("p "))
    ).to_series().to_list() == (pytest.approx([1.0] * shares.height))


def test_a_cross_encoder_learns_the_labels(tiny_model: str, shop_runtime: Runtime, shop) -> None:
    schedule = Schedule(epochs=25, lr=2e-3, patience=0, validations=2)
    lengths = {"query_max_length": 16, "product_max_length": 40}
    recipe = CrossClassifier(model=tiny_model, schedule=schedule, batch_size=64, **lengths)
    constant = measured(Constant(), shop, shop_runtime)
    plain, other = (
        measured(replace(recipe, adjust=adjust), shop, shop_runtime) for adjust in (False, True)
    )
    assert plain[MACRO].drop_nulls()[0] > constant[MACRO].drop_nulls()[0] + 0.05
    assert other[MACRO].drop_nulls()[0] > constant[MACRO].drop_nulls()[0] + 0.05
    shares, moved = (
        shop_runtime.get(replace(recipe, adjust=adjust).probabilities(shop, REQUEST))
        for adjust in (False, True)
    )
    assert shares.select("query_id", "product_id").equals(moved.select("query_id", "product_id"))
    # By hand: the first pair through the network that was trained.
    trained = recipe.probabilities(shop, REQUEST).trained
    folder = shop_runtime.get(trained)
    facts = json.loads((folder / "classes.json").read_text("utf-8"))
    labels = Classes().of(shop_runtime.get(shop).judgments("train").frame["label"])
    np.testing.assert_allclose(facts["prior"], np.bincount(labels) / len(labels))
    cross = LiveCross(recipe, folder, shop_runtime)
    data, pair = opened(shop_runtime.get(shop)), shares.row(0, named=True)
    text = dict(data.queries("test").frame.select("query_id", "text").iter_rows())[pair["query_id"]]
    title = data.catalogue.all_texts(("title",))[
        data.catalogue.ids.to_list().index(pair["product_id"])
    ]
    asked, shown = (cross.tower.tokenizer.encode(words).ids for words in (text, title))
    ids, segments = [*asked, *shown[1:]], [0] * len(asked) + [1] * (len(shown) - 1)
    with torch.inference_mode():
        logits = cross.tower.outputs(
            torch.tensor([ids]), torch.ones(1, len(ids)), torch.tensor([segments])
        )
    expected = logits[0].double().softmax(dim=0).numpy()
    found = [pair[f"p {name}"] for name in Classes().names]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    tilted = expected / np.array(facts["prior"]) ** facts["tau"]
    by_hand = [moved.row(0, named=True)[f"p {name}"] for name in Classes().names]
    np.testing.assert_allclose(by_hand, tilted / tilted.sum(), atol=1e-5)


def test_an_encoder_that_saw_the_labels_is_refused(tiny_model: str, shop) -> None:
    encoder = BiEncoder(gain=GAIN, model=tiny_model)
    trees = Trees(retriever=WORDS, encoders={"own": encoder})
    with pytest.raises(InputError, match=r"encoders\.own is trained on the queries"):
        trees.probabilities(shop, REQUEST)


def test_what_gives_no_class_a_probability_is_refused(shop_runtime: Runtime, shop) -> None:
    protocol = LabelsProtocol(gain=GAIN)
    with pytest.raises(InputError, match="gives no class a probability"):
        protocol.metrics(Dense(encoder=Hashing(dimensions=64)), shop, NoProcessing())
    with pytest.raises(InputError, match="finds no products"):
        Classified(Constant()).run(shop, RetrievalRequest(NoProcessing(), "test", 100))


def test_classes_that_are_a_list_are_refused() -> None:
    with pytest.raises(InputError, match=r"classes must be as evaluation\.classes"):
        Constant(classes=("X", "Y"))  # type: ignore[arg-type]


def test_a_class_that_train_lacks_is_named(shop_runtime: Runtime, shop) -> None:
    classes = Classes(names=("I", "C", "S", "E", "Z"))
    trees = Trees(retriever=WORDS, classes=classes)
    for classifier in (trees, CrossClassifier(classes=classes)):
        with pytest.raises(InputError, match="no train pair has the class 'Z'"):
            shop_runtime.get(classifier.probabilities(shop, REQUEST))
