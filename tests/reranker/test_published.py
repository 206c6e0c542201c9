"""Published cross-encoders give sentence-transformers' scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.reranker.published import Published

QUERIES = ["red cotton shirt", "red cotton shirt", "lamp", "", "steel lamp for women " * 6]
PRODUCTS = ["a Red shirt", "black wool bag", "steel lamp small " * 12, "green", "lamp"]


@pytest.fixture(scope="module")
def save(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def saved(kind: str, labels: int = 1, **options: Any) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        tokenizer = Tokenizer.from_file(str(Path(tiny_model) / "tokenizer.json"))
        tokenizer.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
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


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
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
