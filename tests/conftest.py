"""Shared fixtures: a small shop with an encoder that needs no weights, and a store to build in."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.shop import Shop

# Lucene's processes live for a second: compiling their code a second time would not pay.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """An empty store of its own."""
    return Runtime(outputs=tmp_path / "outputs", device="cpu", progress=False)


@pytest.fixture(scope="session")
def shop_runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """One store for the whole session: what is slow to build is built once."""
    return Runtime(outputs=tmp_path_factory.mktemp("shop"), device="cpu", progress=False)


@pytest.fixture(scope="session")
def toy_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where toys are run; processes and files of tests share it: an artifact is built once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "toys"
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shop() -> Artifact[Dataset]:
    """500 products, 60 queries."""
    return Shop(n_products=500, n_queries=60, n_sessions=50, images=False).dataset()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT of two layers and 32 dimensions with a word tokenizer of the shop's words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    from neurosearch.data.simulation import world

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    folder.mkdir()
    # A vocabulary that is read off, not trained: trainers break ties by chance.
    text = (world._TAXONOMY + world._COLOURS + world._MATERIALS + world._SIZES).lower()
    letters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789-&%."))
    words = sorted(set(re.findall(r"[a-z]{2,}", text)))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_t5(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A T5 of one layer and 32 dimensions over the same words."""
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    tokenizer = Tokenizer.from_file(f"{tiny_model}/tokenizer.json")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=3,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[SEP]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)
    return str(folder)
