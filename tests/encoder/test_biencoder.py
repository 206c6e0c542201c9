"""Bi-encoders: training helps, resumes, and is an encoder like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.biencoder.recipe import BiEncoder, TrainedBiEncoder
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import LabelGain
from neurosearch.loss.infonce import InfoNCE
from neurosearch.loss.kl import KL
from neurosearch.loss.matryoshka import Matryoshka
from neurosearch.negatives.base import Negatives
from neurosearch.negatives.judged import Judged
from neurosearch.negatives.retrieved import Retrieved
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.dense import Dense
from neurosearch.sweep.pruning import Pruned
from neurosearch.training.curves import curves_of
from neurosearch.training.schedule import Schedule, learning_rate_factor

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)


def recipe(model: str, **changes) -> BiEncoder:
    schedule = Schedule(epochs=changes.pop("epochs", 2.0), lr=2e-3, validations=4, patience=0)
    fields = {"product_max_length": 32, "batch_size": 16, "schedule": schedule, **changes}
    return BiEncoder(gain=GAIN, model=model, **fields)


def test_training_helps(tiny_model: str, shop_runtime: Runtime, shop) -> None:
    fields = ("title", "category")
    schedule = Schedule(epochs=16.0, lr=5e-3, validations=4, patience=0)
    trained = recipe(tiny_model, schedule=schedule, negatives=Judged(), fields=fields)
    manifest_of = shop_runtime.store.manifest
    shop_runtime.get(trained.trained(shop))
    details = manifest_of(trained.trained(shop))["details"]
    nothing = Schedule(epochs=0.01, lr=1e-9, patience=0)
    untrained = recipe(tiny_model, schedule=nothing, fields=fields)
    shop_runtime.get(untrained.trained(shop))
    before = manifest_of(untrained.trained(shop))["details"]["best dev nDCG@10"]
    assert details["best dev nDCG@10"] > before + 0.1
    assert 0 < details["masked share"] < 0.5
    curves = (shop_runtime.store.folder(trained.trained(shop)) / "curves.csv").read_text()
    assert "dev nDCG@10" in curves.splitlines()[0] and "loss" in curves.splitlines()[0]


@pytest.mark.parametrize("towers, projection", [("shared", None), ("query_product", 16)])
def test_it_is_an_encoder_like_any_other(
    towers: str, projection: int | None, tiny_model: str, shop_runtime: Runtime, shop
) -> None:
    encoder = recipe(tiny_model, towers=towers, projection=projection, epochs=0.2)
    products = shop_runtime.get(encoder.product_embeddings(shop))
    queries = shop_runtime.get(encoder.query_embeddings(shop, "test", NoProcessing()))
    assert products.vectors.shape[1] == (projection or 32)
    assert np.linalg.norm(products.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert products.encoder == queries.encoder == encoder.identity(shop)
    live = encoder.live(shop_runtime, shop_runtime.get(encoder.trained(shop)))
    text = shop_runtime.get(shop).queries("test").texts[:3]
    assert live.encode(text) == pytest.approx(np.asarray(queries.vectors[:3]), abs=1e-5)


def test_what_changes_the_training_changes_the_encoder(tiny_model: str, shop) -> None:
    base = recipe(tiny_model)
    changed = [
        replace(base, batch_size=8),
        replace(base, mask=False),
        replace(base, schedule=replace(base.schedule, seed=1)),
        replace(base, negatives=Judged()),
        replace(base, product_max_length=16),
    ]
    assert len({e.identity(shop) for e in [base, *changed]}) == len(changed) + 1


MINED = Retrieved(retriever=Dense(encoder=Hashing(dimensions=64)), last=9, refresh_every=1)


@pytest.mark.parametrize("negatives", [Judged(), MINED], ids=["judged", "mined every epoch"])
def test_killed_twice_and_resumed_it_ends_the_same(
    negatives: Negatives, tiny_model: str, shop, tmp_path: Path, monkeypatch
) -> None:
    from neurosearch.encoder.biencoder.training import BiEncoderModule

    runtime = Runtime(tmp_path / "killed", device="cpu", progress=False, checkpoint_seconds=0)
    encoder = recipe(tiny_model, epochs=3.0, negatives=negatives)
    artifact = encoder.trained(shop)
    assert isinstance(artifact, TrainedBiEncoder)
    alone = Runtime(outputs=tmp_path / "alone", device="cpu", progress=False)
    whole = alone.get(artifact)
    step = BiEncoderModule.training_step
    for killed_at in (4, 9):

        def dying(self, number, batch_idx, killed_at=killed_at):
            if number == killed_at:
                raise SystemExit("killed")
            return step(self, number, batch_idx)

        monkeypatch.setattr(BiEncoderModule, "training_step", dying)
        with pytest.raises(SystemExit):
            runtime.get(artifact)
        assert runtime.store.manifest(artifact) is None
    monkeypatch.setattr(BiEncoderModule, "training_step", step)
    resumed = runtime.get(artifact)
    details = runtime.store.manifest(artifact)["details"]
    assert details["resumed at"] >= 8
    from safetensors.numpy import load_file

    one, two = (load_file(folder / "towers.safetensors") for folder in (whole, resumed))
    for name in one:
        assert one[name] == pytest.approx(two[name], abs=1e-5), name


def test_a_diverged_training_says_so(tiny_model: str, shop, tmp_path: Path) -> None:
    runtime = Runtime(tmp_path, device="cpu", progress=False, checkpoint_seconds=0)
    wild = Schedule(epochs=2.0, lr=1e30, clip=1e30, patience=0)
    with pytest.raises(InputError, match=r"training diverged at step \d+: a loss is not finite"):
        runtime.get(recipe(tiny_model, schedule=wild).trained(shop))
    assert not list(runtime.outputs.rglob("*.ckpt"))  # nobody goes on from there


def test_a_pruned_training_is_not_stored_and_can_be_gone_on_with(
    tiny_model: str, shop, tmp_path: Path
) -> None:
    told = []

    class Stern:
        def report(self, step: int, value: float) -> None:
            told.append((step, value))
            raise Pruned(value, step)

    made = recipe(tiny_model, schedule=Schedule(epochs=1.0, validations=2)).trained(shop)
    searched = Runtime(tmp_path, device="cpu", progress=False, pruner=Stern())
    with pytest.raises(Pruned):
        searched.get(made)
    assert len(told) == 1
    assert searched.store.manifest(made) is None
    alone = Runtime(tmp_path, device="cpu", progress=False)
    folder = alone.get(made)
    first = curves_of(folder / "curves.csv")["dev nDCG@10"][0]
    assert told[0] == (first[0] + 1, pytest.approx(first[1]))
    assert (folder / "towers.safetensors").exists()
    assert alone.store.manifest(made)["details"]["steps"] > told[0][0]


def test_one_batch_can_be_overfitted(tiny_model: str, shop_runtime: Runtime, shop) -> None:
    hard = Schedule(epochs=20.0, lr=3e-3, patience=0, validations=1, overfit=True)
    made = recipe(tiny_model, schedule=hard).trained(shop)
    losses = [value for _, value in curves_of(shop_runtime.get(made) / "curves.csv")["loss"]]
    assert losses[-1] < 0.35 * losses[0]
    # Steps of the rest of the data would not come so far; it is another training altogether.
    assert made.artifact_fingerprint != replace_schedule(made, overfit=False)


def replace_schedule(made: TrainedBiEncoder, **changes: bool) -> str:
    """The fingerprint of the training with another schedule."""
    return replace(made, schedule=replace(made.schedule, **changes)).artifact_fingerprint


def test_the_rate_rises_and_falls() -> None:
    linear = [learning_rate_factor(Schedule(warmup=0.1), s, 100) for s in range(101)]
    assert linear[0] == pytest.approx(0.1) and linear[10] == pytest.approx(1.0)
    assert linear[100] == pytest.approx(0.0)
    cosine = learning_rate_factor(Schedule(warmup=0.0, decay="cosine"), 50, 100)
    assert cosine == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"towers": "three"}, r"towers must be one of shared, query_product"),
        ({"pooling": "median"}, r"pooling must be one of mean, cls"),
        ({"batch_size": 1}, r"batch_size must be at least 2"),
        ({"projection": 0}, r"projection must be at least 1"),
    ],
)
def test_wrong_values_are_refused(tiny_model: str, changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(tiny_model, **changes)


def test_negatives_are_mined_in_half_precision_too(tiny_model: str, shop, tmp_path: Path) -> None:
    """Mining happens inside a step, where half precision is on; ranks are taken in full."""
    runtime = Runtime(tmp_path / "half", device="cpu", progress=False)
    trained = recipe(tiny_model, epochs=2.0, negatives=MINED)
    half = replace(trained, schedule=replace(trained.schedule, precision="bf16"))
    folder = runtime.get(half.trained(shop))
    statistics = json.loads((folder / "mined-0-1.json").read_text())
    assert statistics["kept"] > 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"chunk": -5}, r"chunk must be at least 0, not -5"),
        ({"positive_share": 2.0}, r"positive_share must be above 0 and at most 1"),
        ({"dev_products": 0}, r"dev_products must be at least 1"),
        ({"query_max_length": 0}, r"query_max_length must be at least 3"),
        ({"fields": ("nope",)}, r"encoder\.fields: \['nope'\]; known are title"),
        ({"fields": ()}, r"encoder\.fields: \[\]; known are title"),
        ({"loss": KL()}, r"learns from a teacher, and encoder\.teacher is null"),
    ],
)
def test_values_that_make_no_sense_are_refused(tiny_model: str, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(tiny_model, **options)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Schedule(decay="foo"), r"decay must be one of linear, cosine, constant"),
        (lambda: Schedule(epochs=-1.0), r"epochs must be above 0, not -1\.0"),
        (lambda: Schedule(lr=-1.0), r"lr must be above 0"),
        (lambda: Schedule(warmup=5.0), r"warmup must be at least 0 and at most 1"),
        (lambda: Schedule(clip=0.0), r"clip must be above 0"),
        (lambda: Schedule(validations=-2), r"validations must be at least 1"),
        (lambda: Judged(per_query=-1), r"per_query must be at least 0"),
        (lambda: replace(MINED, max_ratio=-3.0), r"max_ratio must be above 0"),
        (lambda: replace(MINED, refresh_every=-1), r"refresh_every must be at least 0"),
        (lambda: KL(teacher_temperature=0.0), r"teacher_temperature must be above 0"),
    ],
)
def test_so_are_those_of_its_parts(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_what_only_the_network_knows_is_refused_too(tiny_model: str, runtime, shop) -> None:
    long = recipe(tiny_model, product_max_length=512).trained(shop)
    with pytest.raises(InputError, match=r"product_max_length=512, but the model reads 64"):
        runtime.get(long)
    wide = recipe(tiny_model, loss=Matryoshka(loss=InfoNCE(), dimensions=(999,))).trained(shop)
    with pytest.raises(InputError, match=r"dimensions: \[999\], but .* have 32"):
        runtime.get(wide)
    assert not list(runtime.outputs.rglob("*.building"))  # nothing half-written stays


def test_a_path_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        _ = recipe(str(tmp_path / "nothing")).fingerprint
