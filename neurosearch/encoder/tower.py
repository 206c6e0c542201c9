"""The network of a bi-encoder: one shared tower or two, pooling, an optional projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.encoder.transformer import (
    POOLINGS,
    batches_by_budget,
    load_pretrained,
    padded,
    pool,
    tokenize,
)
from neurosearch.encoder.weights import weights_digest
from neurosearch.errors import InputError
from neurosearch.recipe import Recipe, content
from neurosearch.runtime import Runtime

TOWERS = ("shared", "query_product")


@dataclass(frozen=True)
class TowerShape(Recipe):
    """Attributes:
    model: that the towers start from.
    towers: `shared` by queries and products, or `query_product`, one each.
    projection: dimensions of a linear map after pooling; None for none.
    """

    pooling: str
    towers: str
    projection: int | None
    query_max_length: int
    product_max_length: int
    model: str = content(weights_digest)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise InputError(f"encoder.pooling must be mean or cls, not {self.pooling!r}")
        if self.towers not in TOWERS:
            raise InputError(f"encoder.towers must be one of {', '.join(TOWERS)}")
        if self.projection is not None and self.projection < 1:
            raise InputError(f"encoder.projection must be at least 1, not {self.projection}")


def load_towers(shape: TowerShape, weights: Path | None, seed: int = 0) -> Any:
    """The network as an nn.Module: `query(tokens, mask)` and `product(tokens, mask)`.

    From the trained `weights` folder, or from the pretrained model.
    """
    import torch
    from torch import nn
    from torch.nn.functional import normalize

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.tokenizer = load_pretrained(shape.model)
            width = self.network.config.hidden_size
            self.dimensions = shape.projection or width
            self.projection: nn.Module = nn.Identity()
            if shape.projection is not None:
                self.projection = nn.Linear(width, shape.projection, bias=False)

        def forward(self, tokens: Any, mask: Any) -> Any:
            hidden = self.network(input_ids=tokens, attention_mask=mask).last_hidden_state
            pooled = pool(hidden, mask, shape.pooling)
            return normalize(self.projection(pooled).float(), dim=-1)

    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = Tower()
            self.product = self.query if shape.towers == "shared" else Tower()

        @property
        def tokenizer(self) -> Any:
            return self.query.tokenizer

        @property
        def dimensions(self) -> int:
            return self.query.dimensions

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers = Towers()
    # The pooler head of BERT is never used: it must not count as untrained.
    for tower in (towers.query, towers.product):
        if getattr(tower.network, "pooler", None) is not None:
            tower.network.pooler = None
    if weights is not None:
        from safetensors.torch import load_model

        load_model(towers, str(weights / "towers.safetensors"))
    return towers


def save_towers(towers: Any, folder: Path) -> None:
    """Write the weights as towers.safetensors (shared tensors once)."""
    from safetensors.torch import save_model

    save_model(towers, str(folder / "towers.safetensors"))


class LiveTowers:
    """Trained towers on the runtime's device; encodes queries, or products."""

    def __init__(self, towers: Any, shape: TowerShape, runtime: Runtime) -> None:
        import torch

        self._device = runtime.torch_device()
        half = runtime.half(self._device)
        self._towers = towers.to(self._device, torch.bfloat16 if half else torch.float32).eval()
        self._shape = shape
        self._budget = runtime.batch_budget(self._device)
        self._tower, self._max_length = towers.query, shape.query_max_length
        self.dimensions: int = towers.dimensions

    def for_products(self) -> LiveTowers:
        self._tower, self._max_length = self._towers.product, self._shape.product_max_length
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        ids = tokenize(self._towers.tokenizer, texts, self._max_length)
        return encode_ids(self._tower, ids, self._budget, self._device)


def encode_ids(tower: Any, ids: Sequence[Sequence[int]], budget: int, device: Any) -> np.ndarray:
    """N×D float32 vectors of token ids, without gradients, in batches of similar length."""
    import torch

    vectors = np.empty((len(ids), tower.dimensions), dtype=np.float32)
    with torch.inference_mode():
        for rows in batches_by_budget([len(x) for x in ids], budget):
            vectors[rows] = tower(*padded([ids[row] for row in rows], device)).cpu().numpy()
    return vectors
