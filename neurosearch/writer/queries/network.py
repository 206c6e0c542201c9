"""The network: an encoder's states of a text, and a decoder that writes another one.

A token's probability is g·softmax(E·LN(W s)) + (1 - g)·Σ a_i over the places i of the read text
that hold it, with s the decoder's state, E the encoder's embeddings of the tokens that train's
texts are written with, a the copying attention and g a gate (See et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding, linear

from neurosearch.core.errors import InputError
from neurosearch.nn.decoder import Block, Norm, beyond_text
from neurosearch.nn.text_encoder import Batch, TextTower

LEAST = 1e-9  # probability, whose logarithm is taken


@dataclass(frozen=True)
class DecoderShape:
    """As `nn.decoder` wants it: a decoder as wide as the encoder whose embeddings it shares."""

    width: int
    heads: int
    feed: int
    dropout: float
    gated: bool = False

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class CopyNetwork(nn.Module):
    """Reads texts, writes texts. `shape`: a `CopyShape`. `longest`: tokens of what is written."""

    def __init__(self, shape: Any, longest: int) -> None:
        super().__init__()
        self.reader = TextTower(shape.model, "cls", key="writer.shape.model")
        marks = self.reader.tokenizer.encode("").ids
        if len(marks) < 2:
            model = shape.model
            raise InputError(f"writer.shape.model={model!r}: its tokenizer marks no begin and end")
        self.begin, self.end = int(marks[0]), int(marks[-1])
        width: int = self.reader.network.config.hidden_size
        if width % shape.heads:
            raise InputError(f"writer.shape.heads={shape.heads} does not divide {width}, its width")
        self.shape = DecoderShape(width, shape.heads, shape.feed, shape.dropout)
        self.places = nn.Embedding(longest, width)
        nn.init.normal_(self.places.weight, std=0.02)
        self.entry = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(self.shape) for _ in range(shape.layers))
        self.norm = Norm(width)
        self.output = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(len(self.embeddings)))
        self.asks = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 1)
        self.register_buffer("is_written", torch.zeros(len(self.embeddings), dtype=torch.bool))
        self.is_written: Tensor

    @property
    def embeddings(self) -> Tensor:
        """V×width embeddings of the tokens."""
        weight: Tensor = self.reader.network.get_input_embeddings().weight
        return weight

    def start(self, ids: np.ndarray) -> None:
        """Say which tokens can be written without being copied.

        Args:
            ids: tokens of train's texts; the end is one of them.
        """
        self.is_written[torch.from_numpy(np.unique(ids))] = True
        self.is_written[self.begin] = False

    @cached_property
    def words(self) -> tuple[Tensor, Tensor]:
        """Ids of the U tokens that can be written, and each token's place among them, or -1."""
        ids = self.is_written.nonzero()[:, 0]
        place = torch.full_like(self.is_written, -1, dtype=torch.long)
        place[ids] = torch.arange(len(ids), device=ids.device)
        return ids, place

    def read(self, batch: Batch) -> Tensor:
        """B×T×width states of padded texts."""
        return self.reader.states(batch)[1]

    def losses(self, batch: Batch, written: Batch) -> Tensor:
        """B×(L-1) negative log-likelihoods of the tokens after the first; 0 where padded."""
        assert written.mask is not None and batch.mask is not None
        memory, drop = self.read(batch), self.shape.dropout if self.training else 0.0
        shown, target = written.tokens[:, :-1], written.tokens[:, 1:]
        length = shown.shape[1]
        ahead = torch.full((length, length), -torch.inf, device=shown.device).triu(1)[None, None]
        states, beyond = dropout(self.entered(shown, 0), drop), beyond_text(batch.mask)
        for block in self.blocks:
            states = block(states, memory, beyond, ahead)
        states = dropout(self.norm(states), drop)
        shares, copied, gate = self.parts(states, memory, batch.mask)
        place = self.words[1][target]
        own = shares.gather(2, place.clamp(min=0)[..., None])[..., 0].exp() * (place >= 0)
        same = target[..., None] == batch.tokens[:, None]
        probability = gate * own + (1 - gate) * (copied * same).sum(dim=-1)
        return -(probability + LEAST).log() * written.mask[:, 1:].bool()

    def entered(self, tokens: Tensor, place: int) -> Tensor:
        """B×L×width inputs of the decoder for tokens from a place on."""
        places = torch.arange(place, place + tokens.shape[1], device=tokens.device)
        inputs: Tensor = self.entry(embedding(tokens, self.embeddings) + self.places(places))
        return inputs

    def parts(self, states: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B×L×U logarithms of the written tokens' shares, B×L×T copying shares, B×L gates."""
        ids = self.words[0]
        logits = linear(self.output(states), self.embeddings[ids], self.bias[ids]).float()
        match = self.asks(states) @ memory.transpose(1, 2) / self.shape.width**0.5
        copied = match.float().masked_fill(~mask.bool()[:, None], -torch.inf).softmax(dim=-1)
        return logits.log_softmax(dim=-1), copied, self.gate(states)[..., 0].float().sigmoid()
