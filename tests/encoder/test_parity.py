"""Vectors are those of sentence-transformers, for made-up models of every kind that it saves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import (
    LayerNorm,
    Pooling,
    StaticEmbedding,
    WeightedLayerPooling,
)
from tokenizers import Tokenizer
from transformers import (
    BertConfig,
    BertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    MistralConfig,
    MistralModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.sentence import Sentence

TEXTS = [
    "red cotton shirt",
    "a Steel Lamp",
    "",
    "green",
    "wool scarf small " * 12,
    "black leather bag for women and men",
]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
DECODER = {**SIZES, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64}


def network(kind: str, size: int) -> Any:
    torch.manual_seed(0)
    shape = {**SIZES, "vocab_size": size}
    match kind:
        case "bert":
            return BertModel(BertConfig(**shape, max_position_embeddings=64))
        case "mpnet":
            config = MPNetConfig(**shape, max_position_embeddings=66, pad_token_id=0)
            return MPNetModel(config)
        case "xlm":
            config = XLMRobertaConfig(**shape, max_position_embeddings=66, pad_token_id=0)
            return XLMRobertaModel(config)
        case "modernbert":
            config = ModernBertConfig(
                **shape, max_position_embeddings=64, pad_token_id=0, local_attention=8
            )
            return ModernBertModel(config)
        case "qwen3":
            return Qwen3Model(Qwen3Config(**{**DECODER, "vocab_size": size}))
        case "mistral":
            return MistralModel(MistralConfig(**{**DECODER, "vocab_size": size}))
    config = Gemma3TextConfig(
        **{**DECODER, "vocab_size": size}, use_bidirectional_attention=True, sliding_window=8
    )
    return Gemma3TextModel(config)


@pytest.fixture(scope="module")
def base(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a transformer of some kind, with a tokenizer that transformers knows."""
    made: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            tokenizer = Tokenizer.from_file(str(Path(tiny_model) / "tokenizer.json"))
            special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_max_length": 32}
            PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
            network(kind, tokenizer.get_vocab_size()).save_pretrained(folder)
            made[kind] = folder
        return made[kind]

    return folder_of


def saved(folder: Path, modules: list[Any], **options: Any) -> Path:
    torch.manual_seed(1)
    SentenceTransformer(modules=modules, device="cpu", **options).save(str(folder))
    return folder


def check(folder: Path, runtime: Runtime, **options: Any) -> Sentence:
    """Queries and products, alone and in a batch, are what the library gives."""
    model = SentenceTransformer(str(folder), device="cpu")
    recipe = Sentence(model=str(folder), **options)
    live = recipe.prefixed(recipe.live(runtime))
    normalized = {"normalize_embeddings": model.similarity_fn_name != "dot"}
    queries = model.encode_query(TEXTS, **normalized)
    products = model.encode_document(TEXTS, **normalized)
    assert live.encode(TEXTS) == pytest.approx(queries, abs=2e-5)
    alone = np.concatenate([live.encode([text]) for text in TEXTS])
    assert alone == pytest.approx(queries, abs=2e-5)  # padding changes nothing
    assert live.for_products().encode(TEXTS) == pytest.approx(products, abs=2e-5)
    assert live.dimensions == queries.shape[1]
    return recipe


MODES = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "max"))


@pytest.mark.parametrize("mode", MODES)
def test_every_pooling(
    mode: Any, base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    modules = [Transformer(str(base("bert"))), Pooling(32, pooling_mode=mode)]
    check(saved(tmp_path / "model", modules), runtime)


KINDS = ("bert", "mpnet", "xlm", "modernbert", "qwen3", "mistral", "gemma")


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture(
    kind: str, base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    mode = "lasttoken" if kind in ("qwen3", "mistral") else "mean"
    modules = [Transformer(str(base(kind))), Pooling(32, pooling_mode=mode), Normalize()]
    prompts = {"query": "red green ", "document": "steel "}
    folder = saved(tmp_path / "model", modules, prompts=prompts)
    if mode == "lasttoken":  # as decoders are published: padded on the left
        config = json.loads((folder / "tokenizer_config.json").read_text())
        left = {**config, "padding_side": "left"}
        (folder / "tokenizer_config.json").write_text(json.dumps(left))
    recipe = check(folder, runtime)
    assert recipe.prefixes == ("red green ", "steel ")


def test_layers_after_the_pooling(
    base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    """As EmbeddingGemma's two dense layers; by inner product, since nothing normalises."""
    torch.manual_seed(2)
    modules = [Transformer(str(base("bert"))), Pooling(32, pooling_mode="mean")]
    modules += [Dense(32, 48, bias=False, activation_function=torch.nn.Identity())]
    modules += [Dense(48, 24), LayerNorm(24)]
    recipe = check(saved(tmp_path / "m", modules, similarity_fn_name="dot"), runtime)
    lengths = np.linalg.norm(recipe.live(runtime).encode(TEXTS), axis=1)
    assert not np.allclose(lengths, 1)


def test_what_the_recipe_says_comes_first(
    base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    modules = [Transformer(str(base("bert"))), Pooling(32, pooling_mode="cls")]
    folder = saved(tmp_path / "model", modules, prompts={"query": "red "})
    model = SentenceTransformer(str(folder), device="cpu", truncate_dim=8)
    model.max_seq_length = 6
    wanted = model.encode(TEXTS, normalize_embeddings=True)
    plain = Sentence(model=str(folder), max_length=6, dimensions=8, query_prefix="")
    live = plain.prefixed(plain.live(runtime))
    assert live.encode(TEXTS) == pytest.approx(wanted, abs=2e-5)
    assert live.dimensions == 8
    assert Sentence(model=str(folder)).prefixes == ("red ", "")
    model[1].pooling_mode = "mean"
    mean = Sentence(model=str(folder), max_length=6, dimensions=8, query_prefix="", pooling="mean")
    wanted = model.encode(TEXTS, normalize_embeddings=True)
    assert mean.live(runtime).encode(TEXTS) == pytest.approx(wanted, abs=2e-5)
    with pytest.raises(InputError, match=r"encoder\.dimensions=33, but the model has 32"):
        Sentence(model=str(folder), dimensions=33).live(runtime)


def test_lower_case_is_the_folders(
    base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    tokenizer = Tokenizer.from_file(str(base("bert") / "tokenizer.json"))
    tokenizer.normalizer = None  # now it tells Red from red
    folder = tmp_path / "cased"
    shutil.copytree(base("bert"), folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    modules = [Transformer(str(folder), do_lower_case=True), Pooling(32, pooling_mode="mean")]
    lower = saved(tmp_path / "lower", modules)
    texts = ["Red Lamp", "red lamp"]
    facts = lower / "sentence_bert_config.json"
    assert json.loads(facts.read_text()).get("do_lower_case") or True
    check(lower, runtime)
    one, two = Sentence(model=str(lower)).live(runtime).encode(texts)
    assert one == pytest.approx(two, abs=1e-6)


def test_static_vectors(tiny_model: str, tmp_path: Path, runtime: Runtime) -> None:
    tokenizer = Tokenizer.from_file(str(Path(tiny_model) / "tokenizer.json"))
    torch.manual_seed(3)
    static = StaticEmbedding(tokenizer, embedding_dim=16)
    check(saved(tmp_path / "static", [static]), runtime)
    short = tmp_path / "short"
    shutil.copytree(tmp_path / "static", short)
    from safetensors.numpy import load_file, save_file

    table = load_file(short / "model.safetensors")["embedding.weight"]
    save_file({"embedding.weight": table[:-3].copy()}, short / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: \d+ token vectors for a vocabulary"):
        Sentence(model=str(short)).live(runtime)


def test_what_is_not_ours_is_the_librarys(
    base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    whole = Transformer(str(base("bert")))
    modules = [whole, Pooling(32, pooling_mode="mean", include_prompt=False)]
    folder = saved(tmp_path / "instructor", modules, prompts={"query": "red green "})
    recipe = check(folder, runtime)
    assert recipe.folder().foreign == "Pooling without the prompt"
    layered = Transformer(str(base("bert")), config_args={"output_hidden_states": True})
    modules = [layered, WeightedLayerPooling(32, num_hidden_layers=2), Pooling(32)]
    assert Sentence(model=str(saved(tmp_path / "w", modules))).folder().foreign


def test_damaged_folders_are_one_line(
    base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    modules = [Transformer(str(base("bert"))), Pooling(32), Dense(32, 8)]
    whole = saved(tmp_path / "whole", modules)

    def damaged(name: str) -> Path:
        shutil.copytree(whole, tmp_path / name)
        return tmp_path / name

    def refused(folder: Path) -> str:
        with pytest.raises(InputError) as error:
            Sentence(model=str(folder)).live(runtime)
        assert "\n" not in str(error.value)
        return str(error.value)

    folder = damaged("half")
    (folder / "1_Pooling" / "config.json").unlink()
    assert "1_Pooling/config.json: no such file" in refused(folder)
    folder = damaged("json")
    (folder / "modules.json").write_text("[{")
    assert "modules.json: can't be read" in refused(folder)
    folder = damaged("mode")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "median"}')
    assert "pools by 'median'" in refused(folder)
    folder = damaged("outside")
    listing = json.loads((folder / "modules.json").read_text())
    listing[1]["path"] = "../whole/1_Pooling"
    (folder / "modules.json").write_text(json.dumps(listing))
    assert "lies outside the folder" in refused(folder)
    folder = damaged("pickled")
    torch.save({}, folder / "2_Dense" / "pytorch_model.bin")
    (folder / "2_Dense" / "model.safetensors").unlink()
    assert "only pickled weights are there" in refused(folder)
    folder = damaged("narrow")
    config = json.loads((folder / "2_Dense" / "config.json").read_text())
    (folder / "2_Dense" / "config.json").write_text(json.dumps({**config, "in_features": 16}))
    assert "in_features is 16, but it is given 32" in refused(folder)
    folder = damaged("weights")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert "pytorch_model.bin: pickled weights" in refused(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "neither modules.json nor config.json" in refused(empty)


def test_pickled_weights_are_loaded_where_allowed(
    base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    modules = [Transformer(str(base("bert"))), Pooling(32, pooling_mode="cls")]
    prompts = {"query": "red green "}
    folder = saved(tmp_path / "pickled", modules, prompts=prompts, default_prompt_name="query")
    wanted = Sentence(model=str(folder), query_prefix="").live(runtime).encode(TEXTS)
    network = BertModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(
        InputError, match="pickled weights, which may hold code, are loaded with allow"
    ):
        Sentence(model=str(folder)).live(runtime)
    recipe = Sentence(model=str(folder), allow=("pickle",), query_prefix="")
    live = recipe.prefixed(recipe.live(runtime))
    assert live.encode(TEXTS) == pytest.approx(wanted, abs=2e-6)  # no prefix is no prefix
    own = Sentence(model=str(folder), allow=("pickle",))
    prefixed = own.prefixed(own.live(runtime)).encode(TEXTS)
    assert not np.allclose(prefixed, wanted, atol=1e-3)  # None is the model's own
    with pytest.raises(InputError, match="pooling can't be chosen"):
        Sentence(model=str(folder), allow=("pickle",), pooling="mean").live(runtime)
    with pytest.raises(InputError, match="allow must be one of pickle, remote_code, not 'code'"):
        Sentence(model=str(folder), allow=("code",))


def test_code_of_a_model_runs_where_allowed(tmp_path: Path, runtime: Runtime) -> None:
    """Its import would leave a file behind."""
    folder = tmp_path / "coded"
    folder.mkdir()
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\nfrom transformers import BertConfig as Own\n"
    (folder / "own.py").write_text(code)
    facts = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"runs with allow=\[remote_code\] only") as caught:
        Sentence(model=str(folder)).live(runtime)
    assert "\n" not in str(caught.value) and not mark.exists()


def test_what_a_folder_says_of_its_vectors(
    base: Callable[[str], Path], tmp_path: Path, runtime: Runtime
) -> None:
    modules = [Transformer(str(base("bert"))), Pooling(32), Normalize()]
    folder = saved(tmp_path / "short", modules, truncate_dim=16)
    vectors = Sentence(model=str(folder)).live(runtime).encode(TEXTS)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert vectors.shape == theirs.shape == (len(TEXTS), 16)
    scaled = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    assert vectors == pytest.approx(scaled, abs=2e-5)
    prompts = {"query": "", "document": "", "other": "red green "}
    folder = saved(tmp_path / "named", modules, prompts=prompts, default_prompt_name="other")
    recipe = Sentence(model=str(folder))
    model = SentenceTransformer(str(folder), device="cpu")
    live = recipe.prefixed(recipe.live(runtime))
    assert live.encode(TEXTS) == pytest.approx(model.encode_query(TEXTS), abs=2e-5)
    euclidean = saved(tmp_path / "far", modules[:2], similarity_fn_name="euclidean")
    with pytest.raises(InputError, match="compared by their euclidean distance"):
        Sentence(model=str(euclidean))
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"model_type": "CrossEncoder"}))
    with pytest.raises(InputError, match="is a CrossEncoder, no sentence encoder"):
        Sentence(model=str(folder))
    (euclidean / "config_sentence_transformers.json").unlink()
    for file in euclidean.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="the folder has no tokenizer"):
        Sentence(model=str(euclidean)).live(runtime)
