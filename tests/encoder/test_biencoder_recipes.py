"""What a bi-encoder may be trained with besides judged pairs: typos, packing, generated queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.shop import Shop
from neurosearch.encoder.biencoder.averaged import AveragedWeights
from neurosearch.encoder.biencoder.generated import Generated, NewQueries, Pretraining
from neurosearch.encoder.biencoder.pairs import PairBatches, TrainingPairs, clusters
from neurosearch.encoder.biencoder.recipe import BiEncoder
from neurosearch.encoder.transferred import Transferred
from neurosearch.evaluation.gain import LabelGain
from neurosearch.negatives.base import NegativeLists
from neurosearch.query.none import NoProcessing
from neurosearch.training.schedule import Schedule
from neurosearch.writer.crops import Crops

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
BRIEF = Schedule(epochs=0.3, lr=1e-3, validations=1, patience=0)


def recipe(model: str, **changes) -> BiEncoder:
    return BiEncoder(
        gain=GAIN,
        model=model,
        **{"batch_size": 16, "schedule": BRIEF, "dev_products": 50, **changes},
    )


def pairs_of(count: int, queries: int) -> TrainingPairs:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {"query": np.sort(rng.integers(0, queries, count)), "row": np.arange(count)}
    ).with_columns(share=pl.lit(1.0))
    texts = [str(n) for n in range(count)]
    return TrainingPairs.of(frame, texts, [f"q{n}" for n in range(queries)], 0.5)


def test_batches_hold_their_share_of_generated_pairs() -> None:
    batches = PairBatches(pairs_of(300, 60), [], 20, 0, 3, judged=100, generated_share=0.25)
    assert batches.steps_per_epoch == 100 // 15
    seen = []
    for step in range(batches.steps_per_epoch):
        _, rows = batches.draw(step)
        assert len(rows) == 20 and (rows < 100).sum() == 15
        seen += rows[rows < 100].tolist()
    assert len(seen) == len(set(seen))  # an epoch shows a judged pair once
    alone = PairBatches(pairs_of(300, 60), [], 20, 0, 3, judged=100, generated_share=1.0)
    assert (alone.draw(0)[1] >= 100).all() and alone.steps_per_epoch == 10


def test_neighbours_share_batches() -> None:
    cluster = np.repeat(np.arange(10), 32)
    np.random.default_rng(1).shuffle(cluster)
    batches = PairBatches(pairs_of(320, 60), [], 32, 0, 0, cluster=cluster)
    plain = PairBatches(pairs_of(320, 60), [], 32, 0, 0)
    drawn = [batches.draw(step)[1] for step in range(10)]
    assert sorted(np.concatenate(drawn)) == list(range(320))
    assert all(len(set(cluster[rows])) == 1 for rows in drawn)  # ten clusters, ten batches
    assert len(set(cluster[plain.draw(0)[1]])) > 5
    order = [cluster[rows[0]] for rows in drawn]
    other = [cluster[batches.draw(step)[1][0]] for step in range(10, 20)]
    assert sorted(order) == sorted(other) and order != other  # a new order in each epoch


def test_clusters_join_what_is_near() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8)) * 10
    vectors = (np.repeat(centres, 64, axis=0) + rng.normal(size=(256, 8))).astype(np.float32)
    found = clusters(vectors).reshape(4, 64)
    assert all(len(set(part)) == 1 for part in found) and len(set(found[:, 0])) == 4


def test_padded_lists_are_empty_for_new_queries() -> None:
    lists = NegativeLists.of(np.array([0, 0, 1]), np.array([5, 6, 7]), 2).padded(4)
    drawn = lists.draw(np.array([0, 1, 2, 3]), 1, np.random.default_rng(0))[:, 0]
    assert drawn[0] in (5, 6) and drawn[1] == 7 and drawn[2] == drawn[3] == -1


def test_typos_are_planted_in_a_share_of_the_queries(
    tiny_model: str, shop_runtime: Runtime, shop, tmp_path
) -> None:
    training = recipe(tiny_model, typos=0.5).trained(shop)
    module = training.module(tmp_path, shop_runtime)
    queries = np.arange(36)
    asked = module._asked(queries, 0)
    count = len(module._batches.pairs.query_of)
    mistyped = asked >= count
    assert 0.2 < mistyped.mean() < 0.8 and ((asked - queries) % count == 0).all()
    texts = module._texts.train_queries
    assert len(texts) == 2 * count
    changed = sum(texts[n] != texts[n + count] for n in range(count))
    assert changed > 0.8 * count
    clean = recipe(tiny_model).trained(shop).module(tmp_path, shop_runtime)
    assert (clean._asked(queries, 0) == queries).all()
    assert len(module._clean()) == count


def test_generated_queries_leave_out_what_is_asked(shop_runtime: Runtime, shop) -> None:
    made = Generated(Crops(shortest=1, longest=2), samples=6).pairs(shop)
    assert isinstance(made, NewQueries)
    frame = shop_runtime.get(made)
    data = shop_runtime.get(shop)
    asked = {t.lower() for split in ("train", "dev", "test") for t in data.queries(split).texts}
    assert frame.height and not {t.lower() for t in frame["text"]} & asked
    titles = data.catalogue.all_texts(("title",))
    for row, text in frame.head(50).iter_rows():
        words = titles[row].split()
        places = [words.index(word) for word in text.split()]
        assert places == sorted(places)  # words of the title, in its order


def test_generated_and_pretrained_are_trainings_of_their_own(
    tiny_model: str, shop_runtime: Runtime, shop
) -> None:
    plain = recipe(tiny_model)
    mixed = replace(plain, generated=Generated(samples=2))
    before = replace(plain, pretraining=Pretraining(Generated(samples=1), BRIEF))
    packed = replace(plain, batches="neighbours")
    found = [shop_runtime.get(r.trained(shop)) for r in (plain, mixed, before, packed)]
    assert len({str(folder) for folder in found}) == 4
    start = before.trained(shop).start
    assert start.objective.generated_share == 1.0 and start.teacher is None
    details = shop_runtime.store.manifest(start)["details"]
    judged = shop_runtime.store.manifest(plain.trained(shop))["details"]["pairs"]
    assert details["pairs"] > judged


def test_averaged_weights_are_the_mean(tiny_model: str, shop_runtime: Runtime, shop) -> None:
    from safetensors.torch import load_file

    both = recipe(tiny_model, averaged=2).trained(shop)
    assert isinstance(both, AveragedWeights)
    assert [training.schedule.seed for training in both.trainings] == [0, 1000]
    assert both.trainings[0] == recipe(tiny_model).trained(shop)
    before = recipe(tiny_model, averaged=2, pretraining=Pretraining(Generated(samples=1), BRIEF))
    starts = [training.start for training in before.trained(shop).trainings]
    assert starts[0] is not None and starts[0] == starts[1]
    mean = load_file(next(shop_runtime.get(both).glob("*.safetensors")))
    parts = [
        load_file(next(shop_runtime.get(training).glob("*.safetensors")))
        for training in both.trainings
    ]
    assert any(not torch.equal(parts[0][name], parts[1][name]) for name in mean)
    for name, value in mean.items():
        assert torch.allclose(value, (parts[0][name] + parts[1][name]) / 2, atol=1e-6)
    with pytest.raises(InputError, match="averaged must be at least 1"):
        recipe(tiny_model, averaged=0)
    with pytest.raises(InputError, match="projection must be null"):
        recipe(tiny_model, averaged=2, projection=16)


def test_a_transfer_to_its_own_source_is_no_transfer(
    tiny_model: str, shop_runtime: Runtime, shop
) -> None:
    encoder = recipe(tiny_model)
    source = Shop(n_products=500, n_queries=60, n_sessions=50, images=False)
    moved = Transferred(encoder=encoder, source=source)
    mine = shop_runtime.get(encoder.query_embeddings(shop, "test", NoProcessing())).vectors
    other = shop_runtime.get(moved.query_embeddings(shop, "test", NoProcessing())).vectors
    assert np.array_equal(mine, other)
    assert moved.label().endswith("fine-tuned on shop")
    target = Shop(n_products=300, n_queries=60, n_sessions=50, images=False).dataset()
    assert moved.trained(target).artifact_fingerprint == moved.trained(shop).artifact_fingerprint
