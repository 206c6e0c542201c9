"""A trained writer at work: texts drawn token by token from the likeliest ones.

A draw depends on the seed, the prompt and the sample's number alone, so that a text does not change
with what is written beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from neurosearch.nn.decoder import beyond_text
from neurosearch.nn.text_encoder import Batch, padded
from neurosearch.nn.tokens import Tokens, batches_by_budget, tokenize
from neurosearch.writer.queries.network import CopyNetwork

GPU_TOKENS, CPU_TOKENS = 65_536, 4_096  # that are read at a time, each sample counted


class LiveWriter:
    """The network on a device."""

    def __init__(self, network: CopyNetwork, lengths: tuple[int, int], device: Any) -> None:
        self._network, self._lengths, self._device = network.to(device).eval(), lengths, device

    @torch.inference_mode()
    def write(
        self,
        prompts: Sequence[str],
        samples: int,
        top_k: int,
        seed: int,
        advance: Callable[[int], object] = lambda count: None,
    ) -> list[list[str]]:
        """Texts for prompts.

        Args:
            prompts: N texts.
            samples: texts of each.
            top_k: likeliest tokens that are drawn from.
            seed: of the draws.
            advance: is told how many prompts are done.

        Returns:
            N lists of `samples` texts.
        """
        tokenizer = self._network.reader.tokenizer
        tokens = tokenize(tokenizer, prompts, self._lengths[0])
        budget = GPU_TOKENS if self._device.type == "cuda" else CPU_TOKENS
        texts: list[list[str]] = [[] for _ in prompts]
        for rows in batches_by_budget(tokens.lengths, max(1, budget // samples)):
            own = [prompts[row] for row in rows]
            draws = np.stack([self._draws(text, samples, seed) for text in own])
            ids = self._written(tokens.take(rows), torch.from_numpy(draws), top_k)
            lines = tokenizer.decode_batch(ids.flatten(0, 1).tolist())
            for place, row in enumerate(rows):
                texts[row] = lines[place * samples : (place + 1) * samples]
            advance(len(rows))
        return texts

    def _draws(self, text: str, samples: int, seed: int) -> np.ndarray:
        """samples×L numbers from 0 to 1."""
        digest = hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        drawn: np.ndarray = rng.random((samples, self._lengths[1]), dtype=np.float32)
        return drawn

    def _written(self, tokens: Tokens, draws: Tensor, top_k: int) -> Tensor:
        """B×W×L tokens for B×W×L draws; what follows the end is the end again."""
        network, draws = self._network, draws.to(self._device)
        count, samples, longest = draws.shape
        writing = Writing(network, padded(tokens, self._device), samples)
        new = torch.full((count, samples), network.begin, device=self._device)
        written = new.new_full((count, samples, longest), network.end)
        ended = torch.zeros_like(new, dtype=torch.bool)
        for step in range(longest - 1):
            likely = writing.advance(new)
            values, columns = likely.topk(min(top_k, likely.shape[-1]), dim=-1)
            bounds = values.cumsum(dim=-1)
            wanted = draws[..., step : step + 1] * bounds[..., -1:]
            place = (bounds <= wanted).sum(dim=-1, keepdim=True).clamp(max=bounds.shape[-1] - 1)
            new = writing.tokens(columns.gather(2, place)[..., 0]).masked_fill(ended, network.end)
            written[..., step] = new
            ended |= new == network.end
            if bool(ended.all()):
                break
        return written


class Writing:
    """W texts being written for each of Q texts that are read.

    Columns are the U tokens that the network can write, then the T places of the read text: a token
    that is only copied has the column of its first place there.
    """

    def __init__(self, network: CopyNetwork, batch: Batch, samples: int) -> None:
        assert batch.mask is not None
        self._network, self._batch, self._mask = network, batch, batch.mask
        self._memory, self._beyond = network.read(batch), beyond_text(batch.mask)
        blocks: Any = network.blocks
        self._texts = [block.text(self._memory) for block in blocks]
        shape, longest = network.shape, network.places.num_embeddings
        size = (len(blocks), 2, len(batch.tokens), samples, shape.heads, longest, shape.head_width)
        self._kept = self._memory.new_empty(size)
        self._step = 0
        ids, place = network.words
        own = place[batch.tokens]
        same = batch.tokens[:, :, None] == batch.tokens[:, None, :]
        first = len(ids) + same.int().argmax(dim=2)
        self._columns = torch.where(own >= 0, own, first)  # Q×T

    def advance(self, new: Tensor) -> Tensor:
        """Q×W×(U + T) probabilities of what follows the Q×W newest tokens."""
        network, step = self._network, self._step
        states = network.entered(new.flatten()[:, None], step).view(*new.shape, -1)
        kept, blocks = self._kept[..., : step + 1, :], list[Any](network.blocks)
        for block, past, text in zip(blocks, kept, self._texts, strict=True):
            states = block.step(states, past, text, self._beyond, None)
        self._step += 1
        shares, copied, gate = network.parts(network.norm(states), self._memory, self._mask)
        likely = pad(shares.exp() * gate[..., None], (0, copied.shape[-1]))
        columns = self._columns[:, None].expand_as(copied)
        likely.scatter_add_(2, columns, (1 - gate[..., None]) * copied)
        likely.masked_fill_(self._refused(likely.shape[-1])[:, None], 0.0)
        return likely

    def tokens(self, columns: Tensor) -> Tensor:
        """The tokens of Q×W columns."""
        ids = self._network.words[0]
        copied = self._batch.tokens.gather(1, (columns - len(ids)).clamp(min=0))
        return torch.where(columns < len(ids), ids[columns.clamp(max=len(ids) - 1)], copied)

    def _refused(self, width: int) -> Tensor:
        """Q×width: columns of special tokens, which are never written; the end is."""
        network, tokens = self._network, self._batch.tokens
        special = torch.isin(tokens, unwritten(network).to(tokens.device))
        refused = torch.zeros(len(tokens), width, dtype=torch.bool, device=tokens.device)
        return refused.scatter_(1, self._columns, special)


def unwritten(network: CopyNetwork) -> Tensor:
    """Special tokens, which stand for no text, but for the end."""
    added = network.reader.tokenizer.get_added_tokens_decoder()
    special = {network.begin, *(number for number, token in added.items() if token.special)}
    return torch.tensor(sorted(special - {network.end}))


@cache
def loaded(shape: Any, lengths: tuple[int, int], folder: Path, device: Any) -> LiveWriter:
    """The trained network of a folder; it is loaded once a process.

    Args:
        shape: a `CopyShape`.
        lengths: tokens of what is read, and of what is written.
        folder: of the weights.
        device: a torch device.

    Returns:
        A writer.
    """
    from safetensors.torch import load_model

    network = CopyNetwork(shape, lengths[1])
    load_model(network, str(folder / "writer.safetensors"))
    return LiveWriter(network, lengths, device)
