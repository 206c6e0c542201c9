"""Encoders in other runtimes and fewer bits: parity with the network, invariance, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder import exported
from neurosearch.encoder.exported import Exported, ExportedNetwork
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.index.flat import Flat
from neurosearch.query.none import NoProcessing

TEXTS = ["lamp", "red lamp for a desk", "", "chair " * 40, "ÜŞ 中 🙂", "oak"]


@pytest.fixture(scope="module")
def inner(tiny_model: str) -> Sentence:
    return Sentence(model=tiny_model, max_length=24, query_prefix="ask: ", product_prefix="")


def live(recipe: Exported, runtime: Runtime, data: Any) -> Any:
    return recipe.live(runtime, runtime.get(recipe.trained(data)))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_fp32_is_the_network(
    inner: Sentence, backend: str, shop: Any, shop_runtime: Runtime
) -> None:
    recipe = Exported(encoder=inner, backend=backend)
    one, other = inner.live(shop_runtime), live(recipe, shop_runtime, shop)
    assert np.abs(one.encode(TEXTS) - other.encode(TEXTS)).max() < 1e-5
    details = shop_runtime.store.manifest(recipe.trained(shop))["details"]  # type: ignore[index]
    assert details["least cosine"] > 1 - 1e-5
    first, second = (
        shop_runtime.get(encoder.query_embeddings(shop, "dev", NoProcessing())).vectors
        for encoder in (inner, recipe)
    )
    assert np.abs(first - second).max() < 1e-5  # prefixes and all


@pytest.mark.parametrize("precision", exported.PRECISIONS)
def test_a_text_is_encoded_alike_beside_any_others(
    inner: Sentence, precision: str, shop: Any, shop_runtime: Runtime
) -> None:
    made = live(Exported(encoder=inner, precision=precision, refuse=False), shop_runtime, shop)
    whole = made.encode(TEXTS)
    alone = np.concatenate([made.encode([text]) for text in TEXTS])
    back = made.encode(TEXTS[::-1])[::-1]
    assert np.abs(whole - alone).max() < 2e-3 and np.abs(whole - back).max() < 2e-3
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-3)
    assert made.encode([]).shape == (0, made.dimensions)


def test_fewer_bits_are_fewer_bytes_and_stay_close(
    inner: Sentence, shop: Any, shop_runtime: Runtime
) -> None:
    sizes = {}
    for precision in exported.PRECISIONS:
        recipe = Exported(encoder=inner, precision=precision, refuse=False)
        folder = shop_runtime.get(recipe.trained(shop))
        sizes[precision] = (folder / "query.onnx").stat().st_size
        assert not (folder / "product.onnx").exists()  # one network for both sides
        details = shop_runtime.store.manifest(recipe.trained(shop))["details"]  # type: ignore[index]
        assert details["mean cosine"] > 0.97
    assert sizes["fp16"] < sizes["fp32"] and sizes["int8"] < sizes["fp32"]


def test_what_departs_too_far_is_refused(
    inner: Sentence, shop: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted loss: the gate of int8 is set to that of fp32."""
    monkeypatch.setitem(exported.ALLOWED, "int8", (1e-7, 1e-7))
    strict = Exported(encoder=inner, precision="int8")
    with pytest.raises(InputError, match=r"int8 departs from its network: a cosine of 1 falls by"):
        runtime.get(strict.trained(shop))
    assert runtime.store.manifest(strict.trained(shop)) is None
    runtime.get(replace(strict, refuse=False).trained(shop))
    tower = replace(strict, refuse=False, queries_only=True)
    with pytest.raises(InputError, match="departs from its network"):  # whatever `refuse` says
        runtime.get(tower.trained(shop))


def test_a_certified_tower_asks_the_encoders_own_index(
    inner: Sentence, shop: Any, shop_runtime: Runtime
) -> None:
    tower = Exported(encoder=inner, queries_only=True)
    both = Exported(encoder=inner)
    index = shop_runtime.get(Flat().build(tower.product_embeddings(shop)))
    own = inner.product_embeddings(shop).artifact_fingerprint
    assert tower.product_embeddings(shop).artifact_fingerprint == own
    asked = shop_runtime.get(tower.query_embeddings(shop, "dev", NoProcessing()))
    rows, _ = index.search(asked, 5)
    theirs = shop_runtime.get(inner.query_embeddings(shop, "dev", NoProcessing()))
    assert (rows == index.search(theirs, 5)[0]).mean() > 0.99
    with pytest.raises(InputError, match="but was asked with vectors of encoder"):
        index.search(shop_runtime.get(both.query_embeddings(shop, "dev", NoProcessing())), 5)


def test_what_cannot_be_exported_is_refused(
    inner: Sentence, shop: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="Hashing has none"):
        Exported(encoder=Hashing())
    with pytest.raises(InputError, match=r"backend must be one of onnx, openvino, not 'torch'"):
        Exported(encoder=inner, backend="torch")
    with pytest.raises(InputError, match=r"fields and prefixes are those of exported\.encoder"):
        Exported(encoder=inner, fields=("brand",))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    artifact = ExportedNetwork(Exported(encoder=inner), None, shop)
    with pytest.raises(
        InputError, match=r"onnx and onnxscript: pip install 'neurosearch\[exchange"
    ):
        artifact.build(tmp_path, runtime)


def test_learnt_ranges_come_from_train_alone(inner: Sentence, shop: Any) -> None:
    recipe = Exported(encoder=inner, precision="int8_static")
    artifact = recipe.trained(shop)
    assert isinstance(artifact, ExportedNetwork)
    parts = artifact.data.parts  # type: ignore[attr-defined]
    assert "queries/train" in parts and not any(part.endswith("test") for part in parts)
