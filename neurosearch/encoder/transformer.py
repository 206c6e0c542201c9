"""Sentence encoders: a Hugging Face text encoder, pooled and normalised (Reimers & Gurevych 2019).

all-MiniLM-L6-v2 is mean pooling and L2 normalisation over six BERT layers; E5 adds the
prefixes `query: ` and `passage: ` on both sides (Wang et al. 2022). Texts are packed into
batches by token budget after sorting by length, so padding is next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.encoder.weights import hub_name, local_folder, weights_digest
from neurosearch.errors import InputError
from neurosearch.recipe import content
from neurosearch.runtime import Runtime

POOLINGS = ("mean", "cls")


@dataclass(frozen=True)
class SentenceEncoder(Encoder):
    """Attributes:
    model: a local folder, a name that a package carries, or a name on the hub.
    pooling: `mean` over tokens, or `cls`, the first one.
    max_length: tokens of a text, special ones included; what is beyond is cut.
    """

    model: str = content(weights_digest, default="sentence-transformers/all-MiniLM-L6-v2")
    pooling: str = "mean"
    max_length: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise InputError(f"encoder.pooling must be mean or cls, not {self.pooling!r}")

    def live(self, runtime: Runtime, weights: Path | None = None) -> LiveEncoder:
        network, tokenizer = load_pretrained(self.model)
        return LiveSentenceEncoder(network, tokenizer, self.pooling, self.max_length, runtime)

    def label(self) -> str:
        return f"{model_label(self.model)} zero-shot"


def model_label(model: str) -> str:
    """A model's short name for tables."""
    name = model.rstrip("/").split("/")[-1]
    return {"all-MiniLM-L6-v2": "MiniLM", "e5-small-v2": "E5-small"}.get(name, name)


class LiveSentenceEncoder:
    """A network (ids, mask -> pooled vectors) and its tokenizer on the runtime's device."""

    def __init__(
        self, network: Any, tokenizer: Any, pooling: str, max_length: int, runtime: Runtime
    ) -> None:
        import torch

        self._device = runtime.torch_device()
        self._budget = runtime.batch_budget(self._device)
        half = runtime.half(self._device)
        self._network = network.to(self._device, torch.bfloat16 if half else torch.float32).eval()
        self._pooling = pooling
        self._tokenizer = tokenizer
        self._max_length = max_length
        self.dimensions: int = network.config.hidden_size

    def for_products(self) -> LiveEncoder:
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        # Characters rank texts almost as tokens do, at no cost; batches count real tokens.
        return np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        ids = tokenize(self._tokenizer, texts, self._max_length)
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        with torch.inference_mode():
            for rows in batches_by_budget([len(x) for x in ids], self._budget):
                tokens, mask = padded([ids[row] for row in rows], self._device)
                vectors[rows] = self.pooled(tokens, mask).float().cpu().numpy()
        return vectors

    def pooled(self, tokens: Any, mask: Any) -> Any:
        """B×D unit vectors of B×T token ids and their mask."""
        from torch.nn.functional import normalize

        hidden = self._network(input_ids=tokens, attention_mask=mask).last_hidden_state
        return normalize(pool(hidden, mask, self._pooling).float(), dim=-1)


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of each text, special ones included, cut at `max_length`; all cores."""
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]


def padded(ids: Sequence[Sequence[int]], device: Any) -> tuple[Any, Any]:
    """B×T token ids and mask (int64) on `device`, padded with zeros."""
    import torch

    width = max(map(len, ids))
    tokens = np.zeros((len(ids), width), dtype=np.int64)
    for row, of_text in enumerate(ids):
        tokens[row, : len(of_text)] = of_text
    sizes = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    mask = (np.arange(width)[None, :] < sizes[:, None]).astype(np.int64)
    return (
        torch.from_numpy(tokens).to(device, non_blocking=True),
        torch.from_numpy(mask).to(device, non_blocking=True),
    )


def pool(hidden: Any, attention: Any, pooling: str) -> Any:
    """B×D vectors of B×T×D token states and a B×T mask."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = attention.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def batches_by_budget(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Rows in batches of similar length, each at most `budget` padded tokens (or one row)."""
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def load_pretrained(model: str) -> tuple[Any, Any]:
    """The transformers model and its `tokenizers` tokenizer, from folder, package or hub.

    Raises InputError where none of them has it.
    """
    from tokenizers import Tokenizer
    from transformers import AutoModel, AutoTokenizer

    folder = local_folder(model)
    source = str(folder) if folder is not None else hub_name(model)
    # The tokenizer's threads are ours to count; forks of them only warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        if folder is not None and (folder / "tokenizer.json").exists():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            tokenizer = AutoTokenizer.from_pretrained(source).backend_tokenizer
        return AutoModel.from_pretrained(source, attn_implementation="sdpa"), tokenizer
    except OSError as error:
        first = str(error).splitlines()[0]
        places = "no such folder, no package carries it, and the hub did not give it"
        raise InputError(f"encoder.model={model!r}: {places} ({first})") from None
