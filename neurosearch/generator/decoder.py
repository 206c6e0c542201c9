"""The decoder over codes: T5's (Raffel et al. 2020), whose weights it can take.

Its vocabulary are (level, code) pairs, so code 3 of the first level and code 3 of the second
share nothing, and a step's softmax is over its own level's codes only. Training reads all
positions of an ID at once; decoding reads one a step and keeps keys and values. Beams of one
query share its text's keys and values, which are computed once and never copied per beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from neurosearch.generator.decoder_config import Shape
from neurosearch.nn.decoder import Block, Norm, beyond_text


class CodeDecoder(nn.Module):
    """`sizes`: codes of each level. `memory_width`: of the text's states."""

    def __init__(self, sizes: Sequence[int], shape: Shape, memory_width: int) -> None:
        super().__init__()
        self.sizes, self.shape = tuple(sizes), shape
        self.start = nn.Parameter(torch.randn(shape.width))
        self.embeddings = nn.ModuleList(nn.Embedding(n, shape.width) for n in self.sizes[:-1])
        self.heads = nn.ModuleList(nn.Linear(shape.width, n, bias=False) for n in self.sizes)
        for head in self.heads.parameters():
            nn.init.normal_(head, std=shape.width**-0.5)
        self.project = (
            nn.Identity()
            if memory_width == shape.width
            else nn.Linear(memory_width, shape.width, bias=False)
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width)
        # T5's relative positions: below sixteen its buckets are the distances themselves.
        self.distance = nn.Parameter(torch.zeros(shape.heads, len(self.sizes)))

    def forward(self, memory: Tensor, mask: Tensor, codes: Tensor) -> list[Tensor]:
        """Logits of each level, B×K_l, after the true codes before it.

        `memory` B×T×width, `mask` B×T (true where there is text), `codes` B×L.
        """
        states = self._embedded(codes)
        length = states.shape[1]
        steps = torch.arange(length, device=states.device)
        back = steps[:, None] - steps[None, :]
        bias = self.distance[:, back.clamp(min=0)].masked_fill(back < 0, -torch.inf)
        memory = self.project(memory)
        beyond = beyond_text(mask)
        drop = self.shape.dropout if self.training else 0.0
        states = dropout(states, drop)
        for block in self._blocks():
            states = block(states, memory, beyond, bias[None])
        states = dropout(self.norm(states), drop)
        return [head(states[:, level]).float() for level, head in enumerate(self.heads[:length])]

    def decoding(self, memory: Tensor, mask: Tensor) -> Decoding:
        """Begin to decode Q texts: a `Stepper`."""
        return Decoding(self, self.project(memory), beyond_text(mask))

    def _embedded(self, codes: Tensor) -> Tensor:
        parts = [self.start.expand(len(codes), 1, -1)]
        for level, embedding in enumerate(self.embeddings):
            parts.append(embedding(codes[:, level : level + 1]))
        return torch.cat(parts, dim=1)

    def _blocks(self) -> list[Any]:
        return list(self.blocks)


class Decoding:
    """Q texts being decoded; see `beam.Stepper`.

    Keys and values of the codes so far lie in one tensor, layers×2×Q×W×H×L×d, that beams are
    re-ordered in.
    """

    def __init__(
        self,
        decoder: CodeDecoder,
        memory: Tensor,
        beyond: Tensor,
        added: Sequence[Tensor] | None = None,
    ) -> None:
        """`added`: of each level Q×1×K, which are added to the logits of all beams."""
        self._decoder, self._beyond, self._added = decoder, beyond, added
        self._blocks = decoder._blocks()
        self._texts = [block.text(memory) for block in self._blocks]
        self._level = 0
        self._kept: Tensor | None = None
        self._memory = memory

    def begin(self) -> Tensor:
        start = self._decoder.start.to(self._memory.dtype)
        return self._step(start.expand(len(self._memory), 1, -1), None)

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        embedded = self._decoder.embeddings[self._level - 1](codes)
        return self._step(embedded.to(self._memory.dtype), parents)

    def _step(self, states: Tensor, parents: Tensor | None) -> Tensor:
        """Q×W×width states of the newest codes to Q×W×K log-probabilities."""
        decoder, level = self._decoder, self._level
        shape = decoder.shape
        queries, beams, _ = states.shape
        size = (len(self._blocks), 2, queries, beams, shape.heads, level + 1, shape.head_width)
        kept = states.new_empty(size)
        if parents is not None:
            assert self._kept is not None
            at = torch.arange(queries, device=states.device)[:, None]
            kept[..., :level, :] = self._kept[:, :, at, parents]
        self._kept = kept
        back = torch.arange(level, -1, -1, device=states.device)
        bias = decoder.distance[:, back][None, :, None, :]
        for block, cache, text in zip(self._blocks, kept, self._texts, strict=True):
            states = block.step(states, cache, text, self._beyond, bias)
        logits: Tensor = decoder.heads[level](decoder.norm(states)).float()
        if self._added is not None:
            logits = logits + self._added[level]
        self._level += 1
        return logits.log_softmax(dim=-1)


def take_t5(decoder: CodeDecoder, t5: Any) -> None:
    """Copy the decoder weights of a transformers T5 into `decoder`, all but its vocabulary's."""
    stack = t5.decoder
    with torch.no_grad():
        table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        decoder.distance.copy_(table[: decoder.distance.shape[1]].T)
        decoder.norm.weight.copy_(stack.final_layer_norm.weight)
        decoder.start.copy_(t5.shared.weight[t5.config.decoder_start_token_id])
        for block, theirs in zip(decoder._blocks(), stack.block, strict=True):
            pairs = ((block.self_attention, "SelfAttention"), (block.cross, "EncDecAttention"))
            for number, (attention, name) in enumerate(pairs):
                source = getattr(theirs.layer[number], name)
                for matrix in ("q", "k", "v", "o"):
                    getattr(attention, matrix).weight.copy_(getattr(source, matrix).weight)
            dense = theirs.layer[2].DenseReluDense
            block.feed.wo.weight.copy_(dense.wo.weight)
            if decoder.shape.gated:
                block.feed.gate.weight.copy_(dense.wi_0.weight)
                block.feed.wi.weight.copy_(dense.wi_1.weight)
            else:
                block.feed.wi.weight.copy_(dense.wi.weight)
            for norm, layer in zip(block.norms, theirs.layer, strict=True):
                norm.weight.copy_(layer.layer_norm.weight)
