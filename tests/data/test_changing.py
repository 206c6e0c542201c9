"""Catalogues that grow: what models see, what IDs stay, and decoders that go on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from neurosearch.collisions.extra import Extra
from neurosearch.collisions.next_best import NextBest
from neurosearch.core import view
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.data.changing import Changing
from neurosearch.data.shop import Shop
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.evaluation.arrivals import ArrivalsProtocol, arrival_metrics
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import LabelGain
from neurosearch.evaluation.opened import opened
from neurosearch.generator.base import TrainedGenerator
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.query.none import NoProcessing
from neurosearch.reranker.base import Fold
from neurosearch.retriever.codes import Codes
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.generative import Generative
from neurosearch.tokenizer.atomic import Atomic
from neurosearch.tokenizer.base import SemanticTokenizer
from neurosearch.tokenizer.hkmeans import HKMeans
from neurosearch.tokenizer.mmq.recipe import MMQ
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule

LABELS = {"E": 3.0, "S": 1.0, "C": 0.0, "I": 0.0}
GAIN = LabelGain("shop", LABELS, LABELS, ("E",))
SHOP = Shop(n_products=500, n_queries=60, n_sessions=50, images=False)
GROWING = Changing(SHOP, 0.2)
WORDS = Hashing(dimensions=64)


@pytest.fixture(scope="module")
def grown(shop_runtime: Runtime):
    return GROWING.bound(shop_runtime)


def test_new_products_are_judged_in_test_alone(shop_runtime: Runtime, grown) -> None:
    whole, now = opened(shop_runtime.get(SHOP.dataset())), opened(shop_runtime.get(grown))
    before = opened(shop_runtime.get(view.states(grown)[0]))
    older, every = set(before.catalogue.ids), set(now.catalogue.ids)
    assert every == set(whole.catalogue.ids) and older < every
    assert 0.1 < 1 - len(older) / len(every) < 0.3
    for split in ("train", "dev"):
        known = whole.judgments(split).frame.filter(pl.col("product_id").is_in(list(older)))
        for data in (now, before):
            assert data.judgments(split).frame.equals(known)
    assert now.judgments("test").frame.equals(whole.judgments("test").frame)
    assert not before.has("test")


def test_the_policy_says_what_models_are_trained_on(grown) -> None:
    assert view.before(grown) == view.states(grown)[0]
    for other in (replace(GROWING, models="retrained"), replace(GROWING, new_share=0.0)):
        artifact = other.dataset()
        assert view.before(artifact) is artifact
    fold = Fold.of(grown, 2, 1)
    assert view.before(fold) == Fold.of(view.states(grown)[0], 2, 1)
    assert view.before(SHOP.dataset()) == SHOP.dataset() and view.states(SHOP.dataset()) == ()
    # One population, so that policies are rows of one table.
    other = replace(GROWING, models="indexed", passes=1.0)
    assert other.population().fingerprint == GROWING.population().fingerprint
    assert GROWING.variant() == f"{SHOP.variant()},new_share=0.2" and GROWING.simulated


def test_nothing_new_is_the_data_itself(shop_runtime: Runtime) -> None:
    """With no new product every number is that of the data without it."""
    codes = Codes(tokenizer=RQKMeans(encoder=WORDS, levels=2, codes=16))
    protocol = CatalogueProtocol(GAIN, depth=100)
    found = [
        shop_runtime.get(protocol.metrics(codes, data.dataset(), NoProcessing()))
        for data in (SHOP, Changing(SHOP, 0.0), Changing(SHOP, 0.0, "retrained"))
    ]
    assert found[0].equals(found[1]) and found[0].equals(found[2])


def test_older_products_keep_their_ids(shop_runtime: Runtime, grown) -> None:
    tokenizer = RQKMeans(encoder=WORDS, levels=2, codes=16)
    ids, before = (
        shop_runtime.get(tokenizer.semantic_ids(data)) for data in (grown, view.states(grown)[0])
    )
    now = shop_runtime.get(grown).catalogue.ids.to_list()
    older = shop_runtime.get(view.states(grown)[0]).catalogue.ids.to_list()
    places = [now.index(name) for name in older]
    np.testing.assert_array_equal(ids.codes[places], before.codes)
    new = np.setdiff1d(np.arange(len(now)), places)
    vectors = shop_runtime.get(WORDS.product_embeddings(grown)).vectors[new]
    quantizer = shop_runtime.get(tokenizer.fitted(view.states(grown)[0]))
    np.testing.assert_array_equal(ids.codes[new], quantizer.assign(vectors))
    retrained = replace(GROWING, models="retrained").dataset()
    again = shop_runtime.get(tokenizer.semantic_ids(retrained))
    assert (again.codes != ids.codes).any()


def test_every_tokenizer_is_fitted_on_what_was_there(shop_runtime: Runtime, grown) -> None:
    kinds, pending = [], [SemanticTokenizer]
    while pending:
        kinds += (found := pending.pop().__subclasses__())
        pending += found
    assert HKMeans in kinds and MMQ in kinds
    assert all(kind.fitted is SemanticTokenizer.fitted for kind in kinds)
    # A tree has numbers for its own products alone: new ones share the last one of a level.
    tree = HKMeans(encoder=WORDS, levels=4, codes=4, leaf=60)
    before, now = (shop_runtime.get(tree.semantic_ids(d)) for d in (view.states(grown)[0], grown))
    assert max(before.sizes) < 60  # no leaf is full: there would be more numbers
    assert now.sizes == before.sizes and (now.codes.max(axis=0) < np.array(now.sizes)).all()
    with pytest.raises(InputError, match="has no code for a new product"):
        Atomic(encoder=WORDS).semantic_ids(grown)


def test_products_arrive_in_steps(shop_runtime: Runtime, grown) -> None:
    """A catalogue grows by a part at a time, until it is the whole one."""
    recipes = [replace(GROWING, steps=3, step=step) for step in range(4)]
    opened_ = [opened(shop_runtime.get(recipe.dataset())) for recipe in recipes]
    held = [set(data.catalogue.ids) for data in opened_]
    assert held[0] < held[1] < held[2] < held[3]
    sizes = np.diff([len(ids) for ids in held])
    assert sizes.sum() == len(held[3]) - len(held[0]) and sizes.max() < 2 * sizes.min()
    assert held[3] == set(opened(shop_runtime.get(grown)).catalogue.ids)
    assert held[0] == set(opened(shop_runtime.get(view.states(grown)[0])).catalogue.ids)
    for data, ids in zip(opened_, held, strict=True):
        assert set(data.judgments("test").frame["product_id"]) <= ids
        assert set(data.judgments("train").frame["product_id"]) <= held[0]
    # The last one's earlier states are the recipes before it; encoders are those of the first.
    last = replace(GROWING, steps=3).dataset()
    assert view.states(last)[1:] == tuple(recipe.dataset() for recipe in recipes[1:3])
    assert view.before(last) == view.states(last)[0] == view.states(recipes[0].dataset())[0]
    assert view.states(recipes[0].dataset())[1:] == ()
    assert recipes[2].variant().endswith("new_share=0.2,steps=3,step=2")
    # The control sees as many texts: 3 passes over .8 + .2 · 2/3, of a catalogue of .8.
    control = replace(GROWING, models="replayed", steps=3, step=2).dataset()
    assert control.passes() == pytest.approx(3 * (0.8 + 0.2 * 2 / 3) / 0.8)
    assert replace(GROWING, models="replayed", steps=3, step=0).dataset().passes() == 0
    # One recipe for one catalogue, and a name of its own for each other.
    assert replace(GROWING, steps=3, step=3) == replace(GROWING, steps=3)
    assert replace(GROWING, step=0).variant() != GROWING.variant()
    # A job's own data, and what a later step knows it as, are one: nothing is built twice.
    held = [recipe.bound(shop_runtime) for recipe in recipes]
    for state, own in zip(view.states(held[3]), held, strict=False):
        for part in (view.products(state), view.learning(state)):
            assert part.artifact_fingerprint in {
                view.products(own).artifact_fingerprint,
                view.learning(own).artifact_fingerprint,
            }
    for wrong, message in (
        ({"steps": 3, "step": 4}, r"step is 4, of steps=3"),
        ({"steps": 2, "new_share": 0.0}, r"steps is 2, but new_share=0"),
        ({"train_share": 0.5}, r"train_share belongs to .*say data\.data\.train_share"),
        ({"folds": 3}, r"folds belongs to"),
    ):
        with pytest.raises(InputError, match=message):
            replace(GROWING, **wrong)
    with pytest.raises(InputError, match=r"data\.steps is 9: no product arrives at step \d"):
        shop_runtime.get(replace(GROWING, new_share=0.002, steps=9).dataset())


def test_ids_of_one_step_stay_at_the_next(shop_runtime: Runtime) -> None:
    policy = NextBest()
    tokenizer = RQKMeans(encoder=WORDS, levels=2, codes=32, collisions=policy)
    first, second = (replace(GROWING, steps=2, step=step).bound(shop_runtime) for step in (1, 2))
    ids, later = (shop_runtime.get(tokenizer.semantic_ids(data)) for data in (first, second))
    names, all_names = (shop_runtime.get(data).catalogue.ids.to_list() for data in (first, second))
    places = [all_names.index(name) for name in names]
    np.testing.assert_array_equal(later.codes[places], ids.codes)


def test_a_decoder_continues_at_each_step(tiny_model: str, shop_runtime: Runtime) -> None:
    encoder = Sentence(model=tiny_model, max_length=16)
    generator = DensePrefix(gain=GAIN, encoder=encoder, max_length=16)
    system = Generative(generator=generator, tokenizer=RQKMeans(encoder=WORDS, levels=2, codes=16))
    recipe = replace(GROWING, models="indexed", steps=2)
    second = system._parts(recipe.dataset())[1]
    first = system._parts(replace(recipe, step=1).dataset())[1]
    start = system._parts(view.states(recipe.dataset())[0])[1]
    assert isinstance(first, TrainedGenerator) and isinstance(second, TrainedGenerator)
    assert second.start.artifact_fingerprint == first.artifact_fingerprint
    assert first.start.artifact_fingerprint == start.artifact_fingerprint
    none = system._parts(replace(recipe, step=0).dataset())[1]
    assert none.artifact_fingerprint == start.artifact_fingerprint
    # So does that of a fold, whose queries no step learns from.
    fold = Fold.of(recipe.dataset(), 2, 0)
    held = system._parts(fold)[1]
    assert isinstance(held, TrainedGenerator) and held.data.stored() == fold
    assert isinstance(held.start, TrainedGenerator)
    assert held.start.data.stored() == Fold.of(replace(recipe, step=1).dataset(), 2, 0)
    control = Fold.of(replace(recipe, models="replayed").dataset(), 2, 0)
    assert control.replays() and control.passes() == pytest.approx(3 / 0.8)
    assert view.states(fold) == tuple(Fold.of(s, 2, 0) for s in view.states(recipe.dataset()))


def test_codes_that_no_model_has_are_refused(shop_runtime: Runtime, grown) -> None:
    crowd = RQKMeans(encoder=WORDS, levels=1, codes=2, collisions=Extra())
    with pytest.raises(InputError, match="collisions=Extra gives new products codes"):
        shop_runtime.get(crowd.semantic_ids(grown))


def test_decoders_are_kept_or_continue(tiny_model: str, shop_runtime: Runtime, grown) -> None:
    shape = Shape(width=32, heads=2, head_width=16, feed=64, layers=1, dropout=0.1)
    schedule = Schedule(epochs=2, lr=3e-3, validations=1, patience=0)
    encoder = Sentence(model=tiny_model, max_length=16)
    options = {"shape": shape, "schedule": schedule, "batch_size": 64, "beam": 5, "max_length": 16}
    generator = DensePrefix(gain=GAIN, encoder=encoder, **options)
    system = Generative(generator=generator, tokenizer=RQKMeans(encoder=WORDS, levels=2, codes=16))
    plain = system._parts(view.states(grown)[0])[1]
    assert system._parts(grown)[1].artifact_fingerprint == plain.artifact_fingerprint
    going = replace(GROWING, models="indexed", passes=0.01).bound(shop_runtime)  # one step
    longer = system._parts(going)[1]
    assert isinstance(longer, TrainedGenerator)
    # Nothing else is trained on the way, and nothing twice.
    assert [part for part in longer.inputs() if part.kind == plain.kind] == [plain]
    before, after = (
        load_file(shop_runtime.get(one).folder / "generator.safetensors") for one in (plain, longer)
    )
    # A step of Adam moves a weight by the learning rate, so it began at the weights before.
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 1.5 * schedule.lr
    # The control has about as many texts, and none of a new product.
    control = replace(GROWING, models="replayed", passes=0.01).bound(shop_runtime)
    replayed = system._parts(control)[1]
    assert isinstance(replayed, TrainedGenerator)
    assert replayed.start.artifact_fingerprint == plain.artifact_fingerprint
    learnt = system.generator.trained(
        view.states(grown)[0], system.tokenizer.semantic_ids(view.states(grown)[0])
    )
    assert replayed.data == learnt.data != longer.data
    assert control.passes() == pytest.approx(0.01 / 0.8)
    run = shop_runtime.get(system.run(going, RetrievalRequest(NoProcessing(), "test", 100)))
    new = set(shop_runtime.get(going).catalogue.ids) - set(
        shop_runtime.get(view.states(going)[0]).catalogue.ids
    )
    assert set(run.frame["product_id"]) & new  # they can be found


def test_recall_of_new_and_old_by_hand() -> None:
    run = pl.DataFrame(
        {
            "query_id": ["a"] * 12 + ["b"],
            "product_id": [f"p{n}" for n in range(12)] + ["p0"],
            "rank": [*range(1, 13), 1],
        }
    )
    graded = pl.DataFrame(
        {
            "query_id": ["a", "a", "a", "a", "b", "c"],
            "product_id": ["p0", "p11", "p99", "p1", "p0", "p1"],
            "relevant": [True, True, True, False, True, True],
        }
    )
    older = pl.Series([f"p{n}" for n in range(12)])
    found = {row["query_id"]: row for row in arrival_metrics(run, graded, [older]).to_dicts()}
    assert found["a"]["Recall@10 old"] == 0.5 and found["a"]["Recall@100 old"] == 1
    assert found["a"]["Recall@10 new"] == 0 == found["a"]["Recall@100 new"]
    assert found["b"]["Recall@10 new"] is None and found["c"]["Recall@10 old"] == 0
    younger = arrival_metrics(run, graded, [older[2:]])
    (row,) = younger.filter(query_id="a").to_dicts()
    assert row["new@10"] == pytest.approx(0.2) and row["Recall@10 new"] == 0.5


def test_recall_of_each_arrival_by_hand() -> None:
    names = ["query_id", "product_id", "rank"]
    rows = [("a", "p0", 1), ("a", "p2", 10), ("a", "p3", 11), ("b", "p1", 2)]
    run = pl.DataFrame(rows, names, orient="row")
    good = [("a", "p0"), ("a", "p1"), ("a", "p2"), ("a", "p3"), ("b", "p1"), ("b", "p2")]
    graded = pl.DataFrame(good, names[:2], orient="row").with_columns(relevant=True)
    known = [pl.Series(["p0"]), pl.Series(["p0", "p1"])]  # p2 and p3 arrived last
    found = arrival_metrics(run, graded, known).sort("query_id")
    rows = found.select("query_id", pl.col("^Recall@10 arrival .$")).rows()
    assert rows == [("a", 1.0, 0.0, 0.5), ("b", None, 1.0, 0.0)]


def test_arrivals_need_a_catalogue_that_grew(shop_runtime: Runtime, grown) -> None:
    protocol = ArrivalsProtocol(GAIN, depth=100)
    with pytest.raises(InputError, match="no new products"):
        protocol.metrics(Dense(encoder=WORDS), SHOP.dataset(), NoProcessing())
    with pytest.raises(InputError, match="no new products"):
        protocol.metrics(Dense(encoder=WORDS), Changing(SHOP, 0.0).dataset(), NoProcessing())
    frame = shop_runtime.get(protocol.metrics(Dense(encoder=WORDS), grown, NoProcessing()))
    steps = replace(GROWING, steps=2).bound(shop_runtime)
    each = shop_runtime.get(protocol.metrics(Dense(encoder=WORDS), steps, NoProcessing()))
    assert each["Recall@10 arrival 0"].equals(each["Recall@10 old"].alias("Recall@10 arrival 0"))
    assert each.select("Recall@10 arrival 1", "Recall@10 arrival 2").mean().row(0) != (None, None)
    known = frame.drop_nulls(["Recall@10 new", "Recall@10 old"])
    assert 0 < known["Recall@10 new"].mean() < 1 and frame["new@10"].null_count() == 0
    with pytest.raises(InputError, match=r"new_share is 0\.9999: no product was there before"):
        shop_runtime.get(Changing(SHOP, 0.9999).dataset())
    for wrong in ({"new_share": 1.0}, {"models": "frozen"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Changing(SHOP, **wrong)
