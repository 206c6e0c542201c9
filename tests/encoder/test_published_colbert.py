"""Published late-interaction models, in the three layouts that they come in."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import string
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from tokenizers import Tokenizer
from transformers import BertModel

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.colbert.embeddings import TokenShape, load_tower
from neurosearch.encoder.colbert.published import PublishedColBERT
from neurosearch.nn.export import save_pylate

QUERIES = ["red lamp", "cotton shirt for men"]
PRODUCTS = ["a lamp, 40 w - red!", "blue cotton shirt", "chair"]


@pytest.fixture(scope="module")
def pylate(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in PyLate's layout, of a network with random weights."""
    source = tmp_path_factory.mktemp("marked")
    tokenizer = json.loads((Path(tiny_model) / "tokenizer.json").read_text())
    for marker in ("[unused0]", "[unused1]"):
        tokenizer["model"]["vocab"][marker] = len(tokenizer["model"]["vocab"])
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    network = BertModel.from_pretrained(tiny_model)
    torch.manual_seed(1)
    network.resize_token_embeddings(len(tokenizer["model"]["vocab"]))
    network.save_pretrained(source)
    markers = ("[unused0]", "[unused1]")
    shape = TokenShape(16, 12, 20, markers, True, False, True, str(source))
    folder = tmp_path_factory.mktemp("pylate")
    save_pylate(load_tower(shape, None, seed=5), shape, folder)
    return folder


def encoded(folder: Path, runtime: Runtime, **options) -> tuple[list[np.ndarray], list[np.ndarray]]:
    shape = PublishedColBERT(model=str(folder), **options).shape
    live = shape.live(None, "fp32", runtime)
    sides = []
    for side, texts in enumerate((QUERIES, PRODUCTS)):
        vectors, offsets = live.encode(texts, side)
        sides.append([vectors[a:b] for a, b in itertools.pairwise(offsets)])
    return sides[0], sides[1]


def by_hand(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Khattab and Zaharia's recipe, token by token, with transformers alone."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    network = BertModel.from_pretrained(folder).eval()
    weight = load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]
    mask_token = tokenizer.token_to_id("[MASK]")
    punctuation = {tokenizer.token_to_id(mark) for mark in string.punctuation} - {None}
    sides: list[list[np.ndarray]] = [[], []]
    for side, texts in enumerate((QUERIES, PRODUCTS)):
        marker = tokenizer.token_to_id(("[unused0]", "[unused1]")[side])
        for text in texts:
            ids = tokenizer.encode(text).ids
            ids = [ids[0], marker, *ids[1:]]
            seen = [1] * len(ids)
            if side == 0:
                seen += [0] * (12 - len(ids))
                ids += [mask_token] * (12 - len(ids))
            with torch.inference_mode():
                states = network(
                    input_ids=torch.tensor([ids]), attention_mask=torch.tensor([seen])
                ).last_hidden_state[0]
            rows = [n for n, token in enumerate(ids) if side == 0 or token not in punctuation]
            vectors = states[rows] @ weight.T
            sides[side].append((vectors / vectors.norm(dim=1, keepdim=True)).numpy())
    return sides[0], sides[1]


def same(first, second) -> None:
    for mine, theirs in zip([*first[0], *first[1]], [*second[0], *second[1]], strict=True):
        assert mine.shape == theirs.shape
        assert mine == pytest.approx(theirs, abs=2e-5)


def test_pylates_layout(pylate: Path, runtime: Runtime) -> None:
    mine = encoded(pylate, runtime)
    same(mine, by_hand(pylate))
    assert [len(query) for query in mine[0]] == [12, 12]
    # [CLS] [D] a lamp [UNK] 4 ##0 w red [UNK] [SEP]: `-` is punctuation that the vocabulary has.
    assert len(mine[1][0]) == 11


def test_the_layout_of_colbertv2(pylate: Path, tmp_path: Path, runtime: Runtime) -> None:
    folder = shutil.copytree(pylate, tmp_path / "stanford")
    weights = load_file(folder / "model.safetensors")
    linear = load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]
    whole = {f"bert.{name}": weight for name, weight in weights.items()}
    save_file({**whole, "linear.weight": linear}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "1_Dense")
    metadata = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 12}
    metadata |= {"doc_maxlen": 20, "attend_to_mask_tokens": False, "mask_punctuation": True}
    (folder / "artifact.metadata").write_text(json.dumps(metadata))
    same(encoded(folder, runtime), by_hand(pylate))


def test_the_librarys_own_layout(pylate: Path, tmp_path: Path, runtime: Runtime) -> None:
    MultiVectorEncoder(str(pylate), device="cpu").save(str(tmp_path / "own"))
    same(encoded(tmp_path / "own", runtime), by_hand(pylate))


def test_lengths_are_settings(pylate: Path, runtime: Runtime) -> None:
    queries, products = encoded(pylate, runtime, query_max_length=6, product_max_length=4)
    assert [len(query) for query in queries] == [6, 6]
    assert max(len(product) for product in products) <= 4


def test_models_of_other_kinds(pylate: Path, tiny_model: str, tmp_path: Path, runtime) -> None:
    with pytest.raises(InputError, match="no model of late interaction"):
        encoded(Path(tiny_model), runtime)
    folder = shutil.copytree(pylate, tmp_path / "half")
    (folder / "1_Dense" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"half: can't be loaded") as caught:
        encoded(folder, runtime)
    assert "\n" not in str(caught.value)
    torch.save({}, folder / "1_Dense" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"1_Dense/pytorch_model\.bin: pickled weights"):
        encoded(folder, runtime)


PEER = """
import sys
import numpy as np
from pylate import models

folder, out = sys.argv[1:]
model = models.ColBERT(folder, device="cpu")
sides = model.encode({queries}, is_query=True), model.encode({products}, is_query=False)
np.savez(out, *[vectors for side in sides for vectors in side])
"""


@pytest.mark.skipif("PYLATE_PYTHON" not in os.environ, reason="PYLATE_PYTHON names no Python")
def test_pylate_itself(pylate: Path, tmp_path: Path) -> None:
    """PyLate can't be installed beside us: PYLATE_PYTHON is that of an environment of its own."""
    code = PEER.format(queries=QUERIES, products=PRODUCTS)
    words = [os.environ["PYLATE_PYTHON"], "-c", code, str(pylate), str(tmp_path / "theirs.npz")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    stored = np.load(tmp_path / "theirs.npz")
    theirs = [stored[f"arr_{n}"] for n in range(5)]
    same(by_hand(pylate), (theirs[:2], theirs[2:]))
