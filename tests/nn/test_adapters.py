"""Adapters of PEFT: read as they are, and trained; only the adapter learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import BertModel

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.biencoder.network import load_towers
from neurosearch.encoder.biencoder.recipe import BiEncoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.evaluation.gain import LabelGain
from neurosearch.nn.pretrained import weights_digest
from neurosearch.training.schedule import Schedule

TEXTS = ["red cotton shirt", "steel lamp", "wool scarf small"]
GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ()
)


@pytest.fixture
def adapter(tiny_model: str, tmp_path: Path) -> Path:
    """A LoRA of the tiny model with weights that change it."""
    network = BertModel.from_pretrained(tiny_model)
    config = peft.LoraConfig(r=4, target_modules=["query", "value"])
    wrapped = peft.get_peft_model(network, config)
    torch.manual_seed(3)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    folder = tmp_path / "adapter"
    wrapped.save_pretrained(folder)
    return folder


def test_an_adapter_changes_its_base(adapter: Path, tiny_model: str, runtime: Runtime) -> None:
    vectors = Sentence(model=str(adapter)).live(runtime).encode(TEXTS)
    base = Sentence(model=tiny_model).live(runtime)
    assert not np.allclose(vectors, base.encode(TEXTS), atol=1e-2)
    # The oracle: transformers with PEFT's own layers, unmerged, and the mean by hand.
    network = peft.PeftModel.from_pretrained(BertModel.from_pretrained(tiny_model), str(adapter))
    tokenizer = SentenceTransformer(tiny_model, device="cpu").tokenizer
    for text, vector in zip(TEXTS, vectors, strict=True):
        batch = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            states = network.eval()(**batch).last_hidden_state[0]
        mean = states.mean(dim=0)
        assert (mean / mean.norm()).numpy() == pytest.approx(vector, abs=1e-5)
    # Another base under the same adapter is another model.
    assert weights_digest(tiny_model) in weights_digest(str(adapter))


def test_damaged_adapters_are_one_line(adapter: Path, tmp_path: Path, runtime: Runtime) -> None:
    def broken(name: str) -> Path:
        return shutil.copytree(adapter, tmp_path / name)

    folder = broken("lost")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: no such file"):
        Sentence(model=str(folder)).live(runtime)
    folder = broken("torn")
    raw = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: can't be read") as caught:
        Sentence(model=str(folder)).live(runtime)
    assert "\n" not in str(caught.value)
    folder = broken("other")  # of a network whose layers have other names
    weights = load_file(folder / "adapter_model.safetensors")
    renamed = {
        k.replace("base_model.model.", "base_model.model.bert."): w for k, w in weights.items()
    }
    save_file(renamed, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"the adapter does not fit \(base_model\.model"):
        Sentence(model=str(folder)).live(runtime)
    folder = broken("nameless")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": None})
    )
    with pytest.raises(InputError, match="base_model_name_or_path names no model"):
        Sentence(model=str(folder))


def test_only_the_adapter_is_trained(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    schedule = Schedule(epochs=2, lr=1e-2, validations=1, patience=0)
    parts = {"batch_size": 32, "schedule": schedule, "query_max_length": 24}
    recipe = BiEncoder(gain=GAIN, model=tiny_model, lora=2, product_max_length=24, **parts)
    folder = shop_runtime.get(recipe.trained(shop))
    before = dict(BertModel.from_pretrained(tiny_model).named_parameters())
    weights = load_file(folder / "towers.safetensors")
    learnt = {name: weight for name, weight in weights.items() if "lora_B" in name}
    assert learnt and all(weight.abs().max() > 0 for weight in learnt.values())
    key = "encoder.layer.0.attention.self.query.weight"
    prefix = "product.network.base_model.model."  # the first name of the shared tower
    known = {name.removeprefix(prefix).replace(".base_layer", ""): w for name, w in weights.items()}
    changed = [name for name, w in before.items() if name in known and not w.equal(known[name])]
    assert len(set(known) & set(before)) > 20
    assert changed == []
    (frozen,) = (w for name, w in weights.items() if "0.attention.self.query.base_layer.w" in name)
    assert torch.equal(frozen, before[key])
    # Merged, the network is W + (alpha / r) B A.
    towers = load_towers(recipe.shape, folder)
    (a,) = (w for name, w in weights.items() if "0.attention.self.query.lora_A" in name)
    (b,) = (w for name, w in weights.items() if "0.attention.self.query.lora_B" in name)
    merged = dict(towers.query.network.named_parameters())[key]
    assert torch.allclose(merged, frozen + 2.0 * (b @ a), atol=1e-6)
    assert "LoRA of rank 2" in recipe.label()
