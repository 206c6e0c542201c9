"""MMQ: assignment by brute force, orthogonality by hand, planted factors, soft indices."""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.histories import history_rows
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.multimodal.fused import Fused
from neurosearch.evaluation.gain import LabelGain
from neurosearch.tokenizer.health import health_of
from neurosearch.tokenizer.mmq.behaviour import Behaviour
from neurosearch.tokenizer.mmq.behaviour_training import BehaviourModule
from neurosearch.tokenizer.mmq.recipe import MMQ, by_information_gain
from neurosearch.tokenizer.per_modality import PerModality
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule

ROOT = Path(__file__).resolve().parents[2]
GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
SHORT = Schedule(epochs=8, lr=2e-3, validations=2, patience=0)
VIEWS = Fused(text=Hashing(dimensions=64), image=Hashing(fields=("bullets",)))
SMALL = {"codes": 16, "hidden": 32, "latent": 8, "batch_size": 128, "schedule": SHORT}


def mmq(**options) -> MMQ:
    return MMQ(encoder=VIEWS, **{**SMALL, **options})


@pytest.fixture
def factors():
    path = ROOT / "experiments" / "factors" / "factors.py"
    spec = importlib.util.spec_from_file_location("factors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_experts_find_planted_factors_and_orthogonality_makes_it_sharper(factors) -> None:
    def probes(weight: float) -> dict[tuple[str, str], float]:
        recipe = factors.tokenizer(0, weight)
        quick = replace(recipe, schedule=replace(recipe.schedule, epochs=60))
        return {(x["experts"], x["factors"]): x["r2"] for x in factors.measured(quick, 2000, 0)}

    plain, sharp = probes(0.0), probes(3.0)
    assert sharp["shared", "shared"] > 0.6
    for own, other in (("words", "picture"), ("picture", "words")):
        assert sharp[own, own] > 0.5
        assert abs(sharp[own, other]) < 0.1  # what the other modality keeps to itself
        assert sharp[own, "shared"] < plain[own, "shared"] - 0.1
        assert sharp[own, own] - sharp[own, "shared"] > plain[own, own] - plain[own, "shared"]


def test_codes_are_the_largest_cosines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 12)).astype(np.float32)
    recipe = mmq(order="experts")
    recipe.fit_views(vectors, 7, tmp_path, Runtime(tmp_path, device="cpu", progress=False))
    quantizer = recipe.quantizer(tmp_path)
    network = quantizer.network
    codes = quantizer.assign(vectors)
    with torch.no_grad():
        latents = network.latents(network.standardised(torch.from_numpy(vectors))[0]).numpy()
    books = network.codebooks.detach().numpy()
    for level in range(4):
        cosines = latents[level] @ books[level].T / np.linalg.norm(books[level], axis=1)
        assert (codes[:, level] == cosines.argmax(axis=1)).all()
    # The last decoding knows all codes: it is the network's own, with typical gates.
    *_, last = quantizer.decode(codes)
    words = network.words(torch.from_numpy(codes.T.astype(np.int64)))
    expected = network.decoded(words * network.typical_gates[:, None, None])
    expected = (expected * network.deviation + network.mean).detach().numpy()
    assert np.allclose(last, expected, atol=1e-5)
    costs = quantizer.costs(vectors, codes)
    assert (costs.argmin(axis=1) == codes[:, -1]).all()
    assert len(list(quantizer.decode(codes[:, :2]))) == 2


def test_a_missing_picture_is_no_error(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 12)).astype(np.float32)
    vectors[::4, 7:] = 0
    recipe = mmq()
    network = recipe.network((7, 5), 16)
    some = torch.from_numpy(vectors)
    parts, _, _ = network.losses(some, recipe)
    inputs, there = network.standardised(some)
    weights = network.weights(inputs, there)
    assert weights[3][::4].abs().max() == 0  # its expert has no say
    words = network.words(network.codes(network.latents(inputs)))
    error = (network.decoded(weights[:, :, None] * words) - inputs).square()
    masked = torch.cat([error[:, :7].ravel(), error[there[:, 1], 7:].ravel()])
    assert float(parts["reconstruction"]) == pytest.approx(float(masked.mean()), rel=1e-5)


def test_orthogonality_is_the_formula() -> None:
    network = mmq().network((3, 2), 4)
    latents = torch.nn.functional.normalize(torch.randn(4, 50, 8), dim=-1)
    z = latents.numpy()
    pairs = list(itertools.combinations(range(4), 2))
    cosines = {(m, n): ((z[m] * z[n]).sum(axis=1) ** 2).mean() for m, n in pairs}
    expected = np.mean(list(cosines.values()))
    assert float(network.orthogonality(latents, "outputs")) == pytest.approx(expected, rel=1e-5)
    kept = [value for pair, value in cosines.items() if pair != (2, 3)]  # words, picture
    assert float(network.orthogonality(latents, "cross")) == pytest.approx(np.mean(kept), rel=1e-5)
    units = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, ddof=1, keepdims=True)
    crossed = [((units[m].T @ units[n] / 50) ** 2).mean() for m, n in pairs if (m, n) != (2, 3)]
    found = float(network.orthogonality(latents, "subspace"))
    assert found == pytest.approx(np.mean(crossed), rel=1e-4)
    rows = []
    for expert, before, after in zip(network.experts, (0, 0, 0, 3), (0, 0, 2, 0), strict=True):
        weight = expert[0].weight.detach().numpy()
        row = np.pad(weight, ((0, 0), (before, after))).ravel()
        rows.append(row / np.linalg.norm(row))
    alike = np.mean([(rows[m] @ rows[n]) ** 2 for m, n in pairs])
    assert float(network.orthogonality(latents, "weights")) == pytest.approx(alike, rel=1e-4)


def test_order_by_information_gain() -> None:
    rng = np.random.default_rng(0)
    fine, coarse = rng.integers(0, 64, 3000), rng.integers(0, 4, 3000)
    codes = np.stack([coarse, fine // 16, fine, np.zeros(3000, np.int64)], axis=1)
    # The finest first; of the rest only the unrelated one adds anything.
    assert by_information_gain(codes)[:2].tolist() == [2, 0]


def behaviour(**options) -> Behaviour:
    return Behaviour(
        gain=GAIN, **{"task": "queries", "schedule": SHORT, "negatives": 64, **options}
    )


@pytest.mark.parametrize("index", ["soft", "hard"])
def test_only_soft_indices_teach_the_experts(index: str) -> None:
    from neurosearch.tokenizer.mmq.examples import Examples

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 12)).astype(np.float32)
    network = mmq().network((7, 5), 16)
    target = rng.integers(0, 80, 60)
    asked = rng.normal(size=(60, 9)).astype(np.float32)
    examples = Examples(target, asked, np.arange(60), np.arange(60) * 80 + target)
    module = BehaviourModule(network, mmq(), behaviour(index=index), vectors, [examples] * 2, 1)
    task, *_ = module._losses_of(examples, np.arange(60), np.arange(80))
    task.backward()
    gradient = network.experts[0][0].weight.grad
    taught = gradient is not None and float(gradient.abs().max()) > 0
    assert taught == (index == "soft")
    assert float(module.table.grad.abs().max()) > 0
    # Whatever the gradient, a product is the sum of its own codes' vectors.
    inputs, _ = network.standardised(torch.from_numpy(vectors))
    latents = network.latents(inputs)
    codes = network.codes(latents)
    found = module.products(latents, codes)
    rows = torch.stack([module.table[m, codes[m]] for m in range(4)]).sum(dim=0)
    assert torch.allclose(found, torch.nn.functional.normalize(rows, dim=1), atol=1e-5)


def test_other_positives_of_a_query_are_no_negatives() -> None:
    from neurosearch.tokenizer.mmq.examples import Examples

    # Query 0 has products 3 and 5, query 1 has 5.
    pairs = np.array([0 * 10 + 3, 0 * 10 + 5, 1 * 10 + 5])
    examples = Examples(np.array([3, 5, 5]), np.zeros((3, 2)), np.array([0, 0, 1]), pairs)
    refused = examples.refused(np.array([0, 2]), np.array([3, 4, 5]), 10)
    assert refused.tolist() == [[False, False, True], [False, False, False]]


def test_stage_two_changes_ids_and_says_how_many(
    shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    first = mmq(order="experts")
    second = replace(first, behaviour=behaviour())
    before, after = (
        np.asarray(shop_runtime.get(t.semantic_ids(shop)).codes) for t in (first, second)
    )
    changed = float((before != after).any(axis=1).mean())
    report = shop_runtime.get(health_of(second, shop))
    assert report["summary"]["churn"] == pytest.approx(changed, abs=1e-6)
    assert changed > 0
    assert shop_runtime.get(health_of(first, shop))["summary"]["churn"] is None


def test_histories_need_data_that_has_them(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    with pytest.raises(InputError, match="the queries have no history"):
        shop_runtime.get(mmq(behaviour=behaviour(task="next_item")).fitted(shop))


def test_history_rows_by_hand(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    import polars as pl

    catalogue = shop_runtime.get(shop).catalogue
    ids = catalogue.ids.to_list()
    frame = pl.DataFrame({"history": [[ids[4], ids[2], ids[9]], [ids[7]], ["unknown"]]})
    rows = history_rows(frame, catalogue, 2)
    assert rows.tolist() == [[2, 9], [-1, 7], [-1, -1]]
    assert history_rows(frame, catalogue).tolist() == [[4, 2, 9], [-1, -1, 7], [-1, -1, -1]]


def test_per_modality_is_two_tokenizers(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    member = RQKMeans(levels=2, codes=8)
    both = PerModality(encoder=VIEWS, member=member, levels=4, codes=8)
    runtime = Runtime(tmp_path, device="cpu", progress=False)
    both.fit_views(vectors, 7, tmp_path, runtime)
    codes = both.quantizer(tmp_path).assign(vectors)
    for name, part, own in (
        ("a", vectors[:, :7], codes[:, :2]),
        ("b", vectors[:, 7:], codes[:, 2:]),
    ):
        (tmp_path / name).mkdir()
        member.fit(np.ascontiguousarray(part), tmp_path / name, runtime)
        assert (member.quantizer(tmp_path / name).assign(part) == own).all()
    errors = [((vectors - x) ** 2).sum() for x in both.quantizer(tmp_path).decode(codes)]
    assert errors == sorted(errors, reverse=True) and len(errors) == 4


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: mmq(shared=3), r"tokenizer\.shared \+ text \+ image are 5"),
        (lambda: mmq(orthogonality="no"), r"orthogonality must be one of"),
        (lambda: mmq(order="random"), r"order must be one of"),
        (lambda: mmq(decoding="none"), r"decoding must be one of"),
        (lambda: mmq(decay=1.5), r"decay must be above 0"),
        (lambda: MMQ(encoder=Hashing()), r"encoder must be fused"),
        (lambda: PerModality(encoder=VIEWS, levels=3), r"tokenizer\.levels=3 can't be halved"),
        (lambda: behaviour(task="clicks"), r"task must be one of"),
        (lambda: behaviour(temperature=0.0), r"temperature must be above 0"),
    ],
)
def test_bad_settings_are_refused(make, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make()
