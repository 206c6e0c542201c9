"""Networks that read a history: SASRec, ZAM and TEM; and one that reads the query alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Items(nn.Module):
    """Products' vectors: N×D, of their texts and of their own; and queries' in the same space."""

    def __init__(self, texts: np.ndarray, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("texts", torch.tensor(texts), persistent=False)
        self.texts: Tensor
        self.map = nn.Linear(texts.shape[1], dimensions)
        self.own = nn.Embedding(len(texts), dimensions)
        nn.init.zeros_(self.own.weight)

    def forward(self) -> Tensor:
        vectors: Tensor = self.map(self.texts) + self.own.weight
        return vectors


class Network(nn.Module):
    """Base: subclasses make one vector of a query and a history (`person`)."""

    def __init__(self, recipe: Any, texts: np.ndarray) -> None:
        super().__init__()
        self.items = Items(texts, recipe.dimensions)
        self.asked = nn.Linear(texts.shape[1], recipe.dimensions)
        self.scale = recipe.dimensions**-0.5

    def forward(self, query: Tensor, histories: Tensor) -> Tensor:
        """Q×N scores of Q×E query vectors and Q×T product rows (-1 in front)."""
        items = self.items()
        there = histories >= 0
        shown = items[histories.clamp(min=0)] * there[..., None]
        scores: Tensor = self.person(self.asked(query), shown, there) @ items.T * self.scale
        return scores

    def person(self, query: Tensor, shown: Tensor, there: Tensor) -> Tensor:
        """Q×D vectors of Q×D queries, Q×T×D products and Q×T flags."""
        raise TypeError(f"{type(self).__name__} does not say what a person is")


class SASRec(Network):
    """Self-attention over the history (Kang and McAuley 2018); the query is not read."""

    def __init__(self, recipe: Any, texts: np.ndarray) -> None:
        super().__init__(recipe, texts)
        self.places = nn.Embedding(recipe.longest, recipe.dimensions)
        self.start = nn.Parameter(torch.zeros(recipe.dimensions))
        self.layers = layers_of(recipe)

    def person(self, query: Tensor, shown: Tensor, there: Tensor) -> Tensor:
        states = shown + self.places.weight
        # A place that is always there, so that an empty history attends to something.
        states = torch.cat([self.start.expand(len(states), 1, -1), states], dim=1)
        known = torch.cat([torch.ones_like(there[:, :1]), there], dim=1)
        mask = nn.Transformer.generate_square_subsequent_mask(states.shape[1], states.device)
        read = self.layers(states, mask=mask.isinf(), src_key_padding_mask=~known)
        last: Tensor = torch.where(there[:, -1:], read[:, -1], read[:, 0])
        return last


class ZAM(Network):
    """Attention that may attend to nothing (Ai et al. 2019): α_i = e^f_i / (1 + Σ e^f)."""

    def __init__(self, recipe: Any, texts: np.ndarray) -> None:
        super().__init__(recipe, texts)
        self.near = nn.Linear(recipe.dimensions, recipe.dimensions, bias=False)

    def person(self, query: Tensor, shown: Tensor, there: Tensor) -> Tensor:
        found = torch.einsum("qd,qtd->qt", self.near(query), shown) * self.scale
        found = found.masked_fill(~there, float("-inf"))
        zero = torch.cat([found.new_zeros(len(found), 1), found], dim=1)
        shares = zero.softmax(dim=1)[:, 1:]
        return query + torch.einsum("qt,qtd->qd", shares, shown)


class TEM(Network):
    """A transformer over the query and the history (Bi et al. 2020), read at the query."""

    def __init__(self, recipe: Any, texts: np.ndarray) -> None:
        super().__init__(recipe, texts)
        self.places = nn.Embedding(recipe.longest + 1, recipe.dimensions)
        self.layers = layers_of(recipe)

    def person(self, query: Tensor, shown: Tensor, there: Tensor) -> Tensor:
        states = torch.cat([query[:, None], shown], dim=1) + self.places.weight
        known = torch.cat([torch.ones_like(there[:, :1]), there], dim=1)
        read: Tensor = self.layers(states, src_key_padding_mask=~known)[:, 0]
        return read


class QueryOnly(Network):
    """The query: a control without a history."""

    def person(self, query: Tensor, shown: Tensor, there: Tensor) -> Tensor:
        return query


NETWORKS: dict[str, type[Network]] = {
    "query_only": QueryOnly,
    "sasrec": SASRec,
    "zam": ZAM,
    "tem": TEM,
}


def layers_of(recipe: Any) -> nn.TransformerEncoder:
    """The transformer of a recipe."""
    layer = nn.TransformerEncoderLayer(
        recipe.dimensions,
        recipe.heads,
        4 * recipe.dimensions,
        recipe.dropout,
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, recipe.layers, enable_nested_tensor=False)


def made(recipe: Any, network: str, texts: np.ndarray) -> Network:
    """A network with the weights that its seed gives.

    Args:
        recipe: of the profile.
        network: its name.
        texts: N×E float32, vectors of the products' texts.

    Returns:
        An nn.Module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.schedule.seed)
        return NETWORKS[network](recipe, texts)
