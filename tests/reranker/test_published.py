"""Published cross-encoders give sentence-transformers' scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.evaluation.gain import LabelGain
from neurosearch.reranker.cross_encoder.network import cross_tower
from neurosearch.reranker.cross_encoder.recipe import CrossEncoder as CrossEncoderRecipe
from neurosearch.reranker.published import Published

GAIN = LabelGain("esci", {"E": 1, "S": 0.1, "C": 0, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ())

QUERIES = ["red cotton shirt", "red cotton shirt", "lamp", "", "steel lamp for women " * 6]
PRODUCTS = ["a Red shirt", "black wool bag", "steel lamp small " * 12, "green", "lamp"]
SHORT = {"query_max_length": 20, "product_max_length": 20}


@pytest.fixture(scope="module")
def save(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def saved(kind: str, labels: int = 1, **options: Any) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        tokenizer = Tokenizer.from_file(str(Path(tiny_model) / "tokenizer.json"))
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] [SEP] $B [SEP]"
            if kind == "xlm"
            else "[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_max_length": 40}
        types = ["token_type_ids"] if kind == "bert" else []
        special |= {"model_input_names": ["input_ids", *types, "attention_mask"]}
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
        shape = {"vocab_size": tokenizer.get_vocab_size(), "hidden_size": 32}
        shape |= {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        shape |= {"max_position_embeddings": 64, "num_labels": labels, "pad_token_id": 0}
        torch.manual_seed(0)
        if kind == "bert":
            network: Any = BertForSequenceClassification(BertConfig(**shape))
        elif kind == "xlm":
            network = XLMRobertaForSequenceClassification(XLMRobertaConfig(**shape))
        else:
            network = ModernBertForSequenceClassification(ModernBertConfig(**shape))
        for parameter in network.classifier.parameters():
            torch.nn.init.normal_(parameter, std=1)
        network.save_pretrained(folder)
        fast.save_pretrained(folder)
        whole = tmp_path_factory.mktemp(f"{kind}_ce")
        CrossEncoder(str(folder), device="cpu", **options).save_pretrained(str(whole))
        return whole

    return saved


@pytest.mark.parametrize("kind", ["bert", "modernbert", "xlm"])
@pytest.mark.parametrize("options", [{}, {"activation_fn": torch.nn.Identity()}])
def test_scores_are_the_librarys(
    kind: str, options: dict[str, Any], save: Any, runtime: Runtime
) -> None:
    folder = save(kind, **options)
    pairs = list(zip(QUERIES, PRODUCTS, strict=True))
    wanted = CrossEncoder(str(folder), device="cpu").predict(pairs)
    scores = Published(model=str(folder)).loaded(runtime).scores(QUERIES, PRODUCTS)
    assert scores == pytest.approx(wanted, rel=1e-4)
    assert np.argsort(scores).tolist() == np.argsort(wanted).tolist()
    assert len(set(wanted.tolist())) == 5  # the head tells these pairs apart
    short = Published(model=str(folder), max_length=12).loaded(runtime)
    wanted = CrossEncoder(str(folder), device="cpu", max_length=12).predict(pairs)
    assert short.scores(QUERIES, PRODUCTS) == pytest.approx(wanted, abs=1e-5)


def test_one_label_of_several_counts(save: Any, runtime: Runtime) -> None:
    folder = save("bert", labels=3)
    wanted = CrossEncoder(str(folder), device="cpu").predict(list(zip(QUERIES, PRODUCTS,
                                                                      strict=True)))  # fmt: skip
    with pytest.raises(InputError, match=r"has 3 labels: reranker\.label_number says which"):
        Published(model=str(folder)).loaded(runtime)
    with pytest.raises(InputError, match="label_number=3, but the model has 3 labels"):
        Published(model=str(folder), label_number=3).loaded(runtime)
    scores = Published(model=str(folder), label_number=1).loaded(runtime)
    assert scores.scores(QUERIES, PRODUCTS) == pytest.approx(wanted[:, 1], abs=1e-5)


def test_a_model_of_another_kind_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**shape, intermediate_size=32, vocab_size=100)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertModel scores no pairs of texts"):
        Published(model=str(tmp_path)).loaded(runtime)


def test_yes_against_no(tiny_model: str, tmp_path: Path, runtime: Runtime) -> None:
    """A decoder's score is the log-odds of two tokens at the end of its prompt."""
    tokenizer = Tokenizer.from_file(str(Path(tiny_model) / "tokenizer.json"))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "padding_side": "left"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
    shape |= {"intermediate_size": 64, "num_key_value_heads": 1, "max_position_embeddings": 64}
    network = Qwen3ForCausalLM(Qwen3Config(vocab_size=tokenizer.get_vocab_size(), **shape))
    network.save_pretrained(tmp_path / "causal")
    fast.save_pretrained(tmp_path / "causal")
    first = Transformer(str(tmp_path / "causal"), transformer_task="text-generation")
    yes, no = (tokenizer.token_to_id(word) for word in ("red", "blue"))
    modules = [first, LogitScore(true_token_id=yes, false_token_id=no)]
    folder = tmp_path / "reranker"
    CrossEncoder(modules=modules, device="cpu", activation_fn=torch.nn.Identity()).save_pretrained(
        str(folder)
    )
    scores = Published(model=str(folder)).loaded(runtime).scores(QUERIES[:3], PRODUCTS[:3])
    for query, product, score in zip(QUERIES, PRODUCTS, scores, strict=False):
        ids = torch.tensor([tokenizer.encode(query, product).ids])
        with torch.inference_mode():
            logits = network.eval()(input_ids=ids).logits[0, -1]
        assert float(logits[yes] - logits[no]) == pytest.approx(score, abs=1e-4)


def test_damaged_folders_are_one_line(save: Any, tmp_path: Path, runtime: Runtime) -> None:
    whole = save("bert")

    def refused(name: str, change: Any, message: str) -> None:
        folder = shutil.copytree(whole, tmp_path / name)
        change(folder)
        with pytest.raises(InputError, match=message) as caught:
            Published(model=str(folder)).loaded(runtime)
        assert "\n" not in str(caught.value) and name in str(caught.value)

    def tear(folder: Path) -> None:
        raw = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(raw[: len(raw) // 2])

    def pickle_only(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")

    def shrink(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text()) | {"vocab_size": 10}
        path.write_text(json.dumps(config))
        weights = load_file(folder / "model.safetensors")
        name = "bert.embeddings.word_embeddings.weight"
        weights[name] = weights[name][:10].contiguous()
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    refused("no_config", lambda f: (f / "config.json").unlink(), "config.json: no such file")
    refused(
        "no_json", lambda f: (f / "config.json").write_text("{"), r"config\.json: can't be read"
    )
    refused("torn", tear, r"model\.safetensors: can't be read")
    refused("pickled", pickle_only, "pickled weights, which may hold code")
    refused("small", shrink, "tokens of the tokenizer, 10 of the network")
    refused("no_tokens", lambda f: (f / "tokenizer.json").write_text("?"), "can't be loaded")


def pair_logits(recipe: CrossEncoderRecipe, runtime: Runtime) -> np.ndarray:
    tower = cross_tower(recipe).eval()
    queries = tower.tokens(QUERIES, recipe.query_max_length, False)
    products = tower.tokens(PRODUCTS, recipe.product_max_length, True)
    places = np.arange(len(QUERIES))
    with torch.inference_mode():
        outputs = tower.of_pairs(
            queries, products, (places, places), 2048, torch.device("cpu"), False
        )
    return tower.scores(outputs).numpy()


@pytest.mark.parametrize("kind", ["bert", "modernbert", "xlm"])
def test_training_starts_from_the_published_head(kind: str, save: Any, runtime: Runtime) -> None:
    folder = save(kind, activation_fn=torch.nn.Identity())
    recipe = CrossEncoderRecipe(gain=GAIN, model=str(folder), **SHORT)
    short = [n for n, text in enumerate(zip(QUERIES, PRODUCTS, strict=True))
             if all(len(part.split()) < 15 for part in text)]  # fmt: skip
    wanted = CrossEncoder(str(folder), device="cpu").predict(
        [(QUERIES[n], PRODUCTS[n]) for n in short]
    )
    assert len(short) == 3
    assert pair_logits(recipe, runtime)[short] == pytest.approx(wanted, abs=1e-5)


def test_a_head_of_several_labels_is_no_start(save: Any, runtime: Runtime) -> None:
    with pytest.raises(InputError, match="has a head of 3 labels"):
        recipe = CrossEncoderRecipe(gain=GAIN, model=str(save("bert", labels=3)), **SHORT)
        cross_tower(recipe)


def test_a_tokenizer_that_pads_all_texts_alike(runtime: Runtime) -> None:
    """The file that comes with MiniLM pads to 128 tokens: no number may hang on that."""
    recipe = CrossEncoderRecipe(gain=GAIN)
    tower = cross_tower(recipe)
    tokens = tower.tokens(["red lamp"], 24, False)
    assert tower.tokenizer.decode(tokens.ids.tolist(), skip_special_tokens=False) == (
        "[CLS] red lamp [SEP]"
    )


def test_a_folder_without_a_tokenizer(save: Any, tmp_path: Path, runtime: Runtime) -> None:
    """transformers would make up one that knows no word."""
    folder = shutil.copytree(save("bert"), tmp_path / "wordless")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(InputError, match="the folder has no tokenizer"):
        Published(model=str(folder)).loaded(runtime)
    with pytest.raises(InputError, match="the folder has no tokenizer"):
        cross_tower(CrossEncoderRecipe(gain=GAIN, model=str(folder), **SHORT))
