"""Encoders of pictures, of both, and heads on top: against transformers and written formulas."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.shop import Shop
from neurosearch.encoder.clip import ClipText
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.image import ImageEncoder
from neurosearch.encoder.multimodal.aligned import Aligned
from neurosearch.encoder.multimodal.fused import Fused, joined
from neurosearch.encoder.multimodal.gated import Gated
from neurosearch.encoder.multimodal.network import Gate, Head
from neurosearch.evaluation.gain import LabelGain
from neurosearch.nn.vision import LivePictures
from neurosearch.query.none import NoProcessing
from neurosearch.training.schedule import Schedule

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
SHORT = Schedule(epochs=20, lr=3e-3, validations=1, patience=0)
SMALL = {"dimensions": 32, "hidden": 32, "batch_size": 128, "schedule": SHORT, "gain": GAIN}


@pytest.fixture(scope="module")
def pictured() -> Artifact[Dataset]:
    """500 products with pictures; queries too."""
    return Shop(n_products=500, n_queries=60, n_sessions=0).dataset()


@pytest.fixture(scope="module")
def image() -> ImageEncoder:
    return ImageEncoder(side=64)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> str:
    """A CLIP of two small layers with random weights and the tiny BERT's tokenizer."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPTextConfig,
        CLIPVisionConfig,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    torch.manual_seed(0)
    text = CLIPTextConfig(
        **small, num_attention_heads=2, vocab_size=2000, max_position_embeddings=16, eos_token_id=3
    )
    vision = CLIPVisionConfig(**small, num_attention_heads=2, image_size=32, patch_size=16)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=f"{tiny_model}/tokenizer.json", pad_token="[PAD]", unk_token="[UNK]"
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.save_pretrained(folder)
    return str(folder)


def png(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 30), (colour, 40, 90)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_pictures_become_unit_vectors_and_missing_ones_zeros(runtime: Runtime) -> None:
    live = LivePictures("efficientnet-lite0", 64, "fp32", runtime)
    vectors = live.encode([png(10), None, png(250), b""])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 1, 0], abs=1e-5)
    assert not np.allclose(vectors[0], vectors[2])


def test_a_killed_encoding_of_pictures_goes_on(
    tmp_path: Path, pictured: Artifact[Dataset], image: ImageEncoder, monkeypatch
) -> None:
    from neurosearch.encoder import image as module

    whole = Runtime(outputs=tmp_path / "whole", device="cpu", progress=False)
    wanted = np.array(whole.get(image.product_embeddings(pictured)).vectors)
    monkeypatch.setattr(module, "SHARD", 200)
    runtime = Runtime(outputs=tmp_path / "killed", device="cpu", progress=False)
    asked: list[int] = []
    encode = LivePictures.encode

    def counted(self, pictures):
        asked.append(len(pictures))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return encode(self, pictures)

    monkeypatch.setattr(LivePictures, "encode", counted)
    with pytest.raises(KeyboardInterrupt):
        runtime.get(image.product_embeddings(pictured))
    found = runtime.get(image.product_embeddings(pictured)).vectors
    assert asked == [200, 200, 200, 100]
    assert np.allclose(found, wanted, atol=1e-5)


def test_clip_is_transformers_clip(
    clip: str, pictured: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    encoder = ClipText(model=clip)
    asked = shop_runtime.get(encoder.query_embeddings(pictured, "dev", NoProcessing()))
    shown = shop_runtime.get(encoder.product_embeddings(pictured))
    assert asked.encoder == shown.encoder  # one space
    data = shop_runtime.get(pictured)
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    texts = data.queries("dev").texts[:5]
    inputs = tokenizer(
        texts, padding="max_length", truncation=True, max_length=16, return_tensors="pt"
    )
    pictures = next(data.catalogue.batches(["image"]))["image"][:4].to_list()
    opened = [Image.open(io.BytesIO(p)).convert("RGB") for p in pictures]
    pixels = AutoImageProcessor.from_pretrained(clip)(images=opened, return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs, **pixels)
    assert np.allclose(asked.vectors[:5], output.text_embeds.numpy(), atol=1e-5)
    assert np.allclose(shown.vectors[:4], output.image_embeds.numpy(), atol=1e-5)
    titles = shop_runtime.get(ClipText(model=clip, products="text").product_embeddings(pictured))
    assert titles.vectors.shape == shown.vectors.shape
    with pytest.raises(InputError, match=r"queries must be text or image"):
        ClipText(model=clip, queries="sound")


def test_a_classifier_gives_the_same_vectors_each_time(tmp_path: Path, runtime: Runtime) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = ViTConfig(**small, num_attention_heads=2, image_size=32, patch_size=16)
    ViTForImageClassification(config).save_pretrained(tmp_path)  # no weights of a pooler
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    one, two = (
        LivePictures(str(tmp_path), 64, "fp32", runtime).encode([png(10)]) for _ in range(2)
    )
    assert np.allclose(one, two, atol=1e-6)


def test_products_without_pictures_are_not_found_by_pictures() -> None:
    from neurosearch.core.vectors import Embeddings
    from neurosearch.index.flat import Flat

    vectors = np.array([[0.0, 0], [0.6, 0.8], [0, 0], [-1, 0]], np.float32)
    rows = np.array([1, 3])
    live = Flat().live(Flat().filled(vectors[rows]), "e", rows)
    found, _ = live.search(Embeddings(np.array([[1.0, 0], [0, 0]], np.float32), "e"), 4)
    assert found.tolist() == [[1, 3], [-1, -1]]  # and a query without one finds nothing


def test_a_model_without_words_is_refused(tiny_model: str, runtime: Runtime) -> None:
    with pytest.raises(InputError, match="without a tower for words"):
        ClipText(model=tiny_model).live(runtime)


def test_queries_without_pictures_are_refused(
    image: ImageEncoder, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    with pytest.raises(InputError, match="the queries of data=shop have no pictures"):
        shop_runtime.get(image.query_embeddings(shop, "test", NoProcessing()))
    with pytest.raises(InputError, match="none of the 500 has a picture"):
        shop_runtime.get(image.product_embeddings(shop))


unit = st.floats(-1, 1).filter(lambda x: abs(x) > 1e-2)


@settings(deadline=None, max_examples=30)
@given(st.data(), st.floats(0, 1))
def test_early_fusion_mixes_cosines(data, share: float) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    views = [rng.normal(size=(4, d)) for d in (3, 5)]
    views[1][0] = 0  # no picture
    fused = joined(views, [np.zeros(1), np.zeros(1)], share).astype(np.float64)
    cosines = []
    for view in views:
        length = np.linalg.norm(view, axis=1, keepdims=True)
        normal = view / np.where(length == 0, 1, length)
        cosines.append(normal @ normal.T)
    expected = share * cosines[0] + (1 - share) * cosines[1]
    assert (fused @ fused.T)[1:, 1:] == pytest.approx(expected[1:, 1:], abs=1e-6)
    if share > 1e-6:  # its words are all that it has
        assert fused[0] @ fused[0] == pytest.approx(1, abs=1e-6)
        assert (fused @ fused.T)[0, 1:] == pytest.approx(share**0.5 * cosines[0][0, 1:], abs=1e-6)


def test_a_gate_takes_what_is_there() -> None:
    torch.manual_seed(0)
    gate = Gate((6, 4), 8, 16)
    words, picture = torch.randn(3, 6), torch.randn(3, 4)
    alone = gate([words, torch.zeros(3, 4)])
    assert torch.allclose(alone, gate.heads[0]([words, picture]), atol=1e-6)
    seen = gate([torch.zeros(3, 6), picture])
    assert torch.allclose(seen, gate.heads[1]([words, picture]), atol=1e-6)
    both = gate([words, picture])
    share = gate.gate(torch.cat([alone, seen], dim=1)).sigmoid()
    expected = torch.nn.functional.normalize(share * alone + (1 - share) * seen, dim=1)
    assert torch.allclose(both, expected, atol=1e-6)
    assert Head(1, 4, 8, 16)([words, torch.zeros(3, 4)]).abs().max() == 0


@pytest.fixture(scope="module")
def ndcg(pictured: Artifact[Dataset], shop_runtime: Runtime):
    from neurosearch.evaluation.catalogue import CatalogueProtocol
    from neurosearch.retriever.dense import Dense

    def of(encoder) -> float:
        protocol = CatalogueProtocol(GAIN, split="test", depth=100)
        metrics = protocol.metrics(Dense(encoder), pictured, NoProcessing())
        return float(shop_runtime.get(metrics)["nDCG@10"].mean())

    return of


def test_words_learn_to_find_pictures(image: ImageEncoder, ndcg) -> None:
    words = Hashing()
    aligned = Aligned(text=words, image=image, **SMALL)
    untrained = Schedule(epochs=0.01, lr=1e-9, validations=1, patience=0)
    assert ndcg(aligned) > 3 * ndcg(
        Aligned(text=words, image=image, **SMALL | {"schedule": untrained})
    )


def test_live_words_are_the_batch_words(
    image: ImageEncoder, pictured: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    words = Hashing()
    aligned = Aligned(text=words, image=image, **SMALL)
    texts = shop_runtime.get(pictured).queries("test").texts
    for encoder in (
        aligned,
        Gated(text=words, image=image, **SMALL),
        Fused(text=words, image=aligned, text_share=0.3),
    ):
        batch = shop_runtime.get(encoder.query_embeddings(pictured, "test", NoProcessing()))
        live = encoder.loaded(shop_runtime, pictured).encode(texts)
        assert np.allclose(batch.vectors, live, atol=1e-5), encoder.label()
        products = shop_runtime.get(encoder.product_embeddings(pictured))
        assert products.encoder == batch.encoder
        assert np.abs(np.linalg.norm(products.vectors, axis=1) - 1).max() < 1e-4


def test_bad_settings_are_refused(image: ImageEncoder) -> None:
    words = Hashing()
    with pytest.raises(InputError, match=r"text_share must be at least 0"):
        Fused(text=words, image=image, text_share=1.5)
    with pytest.raises(InputError, match=r"queries must be one of text, both"):
        Gated(text=words, image=image, queries="image", **SMALL)
    with pytest.raises(InputError, match=r"products must be text or image"):
        Aligned(text=words, image=image, products="both", **SMALL)
    with pytest.raises(InputError, match=r"side must be at least 64"):
        ImageEncoder(side=8)
