"""Models of another kind than is wanted: one line that says which."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import BertConfig, BertForSequenceClassification

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.sentence import Sentence
from neurosearch.generator.network import pretrained_seq2seq


def test_a_cross_encoder_is_no_encoder(tiny_model: str, tmp_path: Path, runtime: Runtime) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "pairs")
    facts = json.loads((folder / "config.json").read_text())
    config = BertConfig(**{**facts, "num_labels": 1})
    BertForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(InputError, match=r"a BertForSequenceClassification, .*reranker=published"):
        Sentence(model=str(folder)).live(runtime)


def test_pictures_and_words_are_no_encoder_of_texts(tmp_path: Path, runtime: Runtime) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(InputError, match="a clip, no encoder of texts alone"):
        Sentence(model=str(tmp_path)).live(runtime)


def test_a_tokenizer_with_more_words_than_the_network(tiny_t5: str, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "small")
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**facts, "vocab_size": 10}))
    with pytest.raises(InputError, match=r"small: \d+ tokens of the tokenizer, 10 of the network"):
        pretrained_seq2seq(str(folder))
