"""The two sides of a bi-encoder: one shared tower or two, from pretrained or trained weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosearch.core.bounds import bounds
from neurosearch.core.digests import content
from neurosearch.core.recipe import Recipe
from neurosearch.nn.pretrained import model_folder, weights_digest
from neurosearch.nn.sentence_folder import POOLINGS, refuse_other_kinds
from neurosearch.training.weights import save_weights

TOWERS = ("shared", "query_product")


@dataclass(frozen=True)
class TowerShape(Recipe):
    """Attributes:
    model: that the towers start from.
    pooling: instead of the model's own; None for that.
    towers: `shared` by queries and products, or `query_product`, one each.
    projection: dimensions of a linear map after pooling; None for none.
    lora: rank of a low-rank adapter, which is trained instead of the network's weights (layers
        after the pooling are trained too); 0 for none.
    """

    pooling: str | None = field(metadata=bounds(choices=POOLINGS))
    towers: str = field(metadata=bounds(choices=TOWERS))
    projection: int | None = field(metadata=bounds(least=1))
    query_max_length: int = field(metadata=bounds(least=3))
    product_max_length: int = field(metadata=bounds(least=3))
    lora: int = field(metadata=bounds(least=0))
    model: str = content(weights_digest)

    @property
    def max_lengths(self) -> tuple[int, int]:
        """Of queries, of products."""
        return self.query_max_length, self.product_max_length


def load_towers(shape: TowerShape, weights: Path | None, seed: int = 0) -> Any:
    """An nn.Module with `query` and `product`, both a TextTower (the same one where shared).

    From the trained `weights` folder, or from the pretrained model.
    """
    import torch
    from torch import nn

    from neurosearch.nn.adapters import with_adapter
    from neurosearch.nn.text_encoder import TextTower

    refuse_other_kinds(model_folder(shape.model, "encoder.model"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        towers: Any = nn.Module()
        towers.query = TextTower(shape.model, shape.pooling, shape.projection)
        towers.product = towers.query
        if shape.towers == "query_product":
            towers.product = TextTower(shape.model, shape.pooling, shape.projection)
        sides = {id(tower): tower for tower in (towers.query, towers.product)}.values()
        if shape.lora:
            for tower in sides:
                tower.network = with_adapter(tower.network, shape.lora)
    if weights is not None:
        from safetensors.torch import load_model

        load_model(towers, str(weights / "towers.safetensors"))
        if shape.lora:  # trained: a network as any other
            for tower in sides:
                tower.network = tower.network.merge_and_unload()
    return towers


def save_towers(towers: Any, folder: Path) -> None:
    """Write the weights as towers.safetensors (shared tensors once)."""
    save_weights(towers, folder / "towers.safetensors")
