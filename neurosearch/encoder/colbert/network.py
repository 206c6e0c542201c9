"""The network of late interaction: a unit vector for every token, and MaxSim between texts.

ColBERT (Khattab & Zaharia 2020): a marker after [CLS] says whether a text is a query or a
document; tokens are projected and normalised one by one; a query may be filled up with [MASK]
to a fixed length, whose vectors expand it; punctuation of documents is encoded and not scored.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from neurosearch.core.errors import InputError
from neurosearch.core.ragged import offsets_of
from neurosearch.nn.ragged import Ragged
from neurosearch.nn.taken import taken
from neurosearch.nn.text_encoder import Batch, TextTower, packed, padded
from neurosearch.nn.tokens import Tokens, batches_by_budget, tokenize


class TokenTower(nn.Module):
    """Texts to token vectors. `dimensions` null keeps the network's width."""

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.tower = TextTower(recipe.model, "cls")
        width: int = self.tower.network.config.hidden_size
        self.dimensions = recipe.dimensions or width
        self.projection = nn.Linear(width, self.dimensions, bias=False)
        # Near an isometry: what the network knew of similarity survives the projection.
        nn.init.orthogonal_(self.projection.weight)
        tokenizer = self.tower.tokenizer
        self.tokenizer = tokenizer
        self._recipe = recipe
        self._markers = [_token(tokenizer, name) for name in recipe.markers]
        self._mask_token = _token(tokenizer, "[MASK]") if recipe.expansion else None
        skipped = {tokenizer.token_to_id(mark) for mark in string.punctuation}
        size = tokenizer.get_vocab_size()
        kept = torch.ones(size, dtype=torch.bool)
        if recipe.skip_punctuation:
            kept[[token for token in skipped if token is not None]] = False
        self.register_buffer("kept", kept, persistent=False)
        self.kept: Tensor

    def tokens(self, texts: Sequence[str], side: int) -> Tokens:
        """Tokens of queries (side 0) or documents (1), the marker after the first token."""
        longest = (self._recipe.query_max_length, self._recipe.product_max_length)[side]
        marker = self._markers[side]
        tokens = tokenize(self.tokenizer, texts, longest - (marker is not None))
        if marker is None:
            return tokens
        places = tokens.offsets[:-1] + 1
        lengths = tokens.lengths + 1
        offsets = offsets_of(lengths)
        return Tokens(np.insert(tokens.ids, places, marker), offsets)

    def scored(self, tokens: Tokens, side: int) -> np.ndarray:
        """N int64: how many vectors each text will have."""
        if side == 0:
            length = self._recipe.query_max_length
            return np.full(len(tokens), length) if self._recipe.expansion else tokens.lengths
        kept = self.kept.cpu().numpy()[tokens.ids].astype(np.int64)
        sums = offsets_of(kept)
        counts: np.ndarray = sums[tokens.offsets[1:]] - sums[tokens.offsets[:-1]]
        return counts

    def forward(
        self, tokens: Tokens, side: int, budget: int, device: torch.device, half: bool
    ) -> Ragged:
        """All vectors that are scored, text after text, in the order of `tokens`."""
        counts = self.scored(tokens, side)
        lengths = np.maximum(counts, tokens.lengths) if side == 0 else tokens.lengths
        batches = batches_by_budget(lengths, budget, self._packs(side, device, half))
        parts = [self._vectors(tokens.take(rows), side, device, half) for rows in batches]
        order = np.concatenate(batches)
        starts = offsets_of(counts[order])
        back = np.argsort(order)
        offsets = offsets_of(counts)
        shift = np.repeat(starts[back] - offsets[:-1], counts)
        places = torch.from_numpy(shift + np.arange(offsets[-1])).to(device)
        return Ragged(taken(torch.cat(parts), places), offsets)

    def _packs(self, side: int, device: torch.device, half: bool) -> bool:
        is_expanded = side == 0 and self._mask_token is not None
        return not is_expanded and self.tower.packs(device, half)

    def _vectors(self, tokens: Tokens, side: int, device: torch.device, half: bool) -> Tensor:
        if side == 0 and self._mask_token is not None:
            states, there = self._expanded(tokens, device)
        elif self._packs(side, device, half):
            batch = packed(tokens, device)
            states, there = self.tower.states(batch)[1], torch.ones_like(batch.tokens[0]).bool()
            if side == 1:
                there = self.kept[batch.tokens[0]]
        else:
            batch = padded(tokens, device)
            assert batch.mask is not None
            states, there = self.tower.states(batch)[1], batch.mask.bool()
            if side == 1:
                there = there & self.kept[batch.tokens]
        chosen = states[there]
        projected = self.projection(chosen.to(self.projection.weight.dtype))
        return normalize(projected.float(), dim=-1)

    def _expanded(self, tokens: Tokens, device: torch.device) -> tuple[Tensor, Tensor]:
        """Queries filled up with [MASK], which attends to all and is attended to by none."""
        length = self._recipe.query_max_length
        there = np.arange(length)[None, :] < tokens.lengths[:, None]
        filled = np.full(there.shape, self._mask_token, dtype=np.int64)
        filled[there] = tokens.ids
        mask = there | self._recipe.attend_expansion
        rows = torch.from_numpy(filled).to(device)
        shown = torch.from_numpy(mask.astype(np.int64)).to(device)
        states = self.tower.states(Batch(rows, shown, None, None, length))[1]
        return states, torch.ones_like(rows).bool()


def _token(tokenizer: Any, name: str | None) -> int | None:
    if name is None:
        return None
    number: int | None = tokenizer.token_to_id(name)
    if number is None:
        raise InputError(f"encoder: the model's tokenizer has no token {name!r}")
    return number
