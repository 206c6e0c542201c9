"""Codes by the decoder of any sequence-to-sequence model of transformers (BART, mBART, Pegasus…).

It is given vectors of codes in place of its words' and, like `decoder`, has a softmax over each
level's codes. T5's decoder is computed there instead, and faster: it keeps what it has read of a
text, while this one reads a beam's codes from the first one again at every step.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurosearch.core.errors import InputError


class ForeignDecoder(nn.Module):
    """See `decoder.CodeDecoder`, whose interface this is.

    Args:
        sizes: codes of each level.
        network: transformers' decoder.
        start: number of the word that it begins with.

    Raises:
        InputError: it can't be given vectors.
    """

    def __init__(self, sizes: Sequence[int], network: Any, start: int) -> None:
        super().__init__()
        if "inputs_embeds" not in inspect.signature(network.forward).parameters:
            kind = network.config.model_type
            raise InputError(f"generator.model: the decoder of a {kind} reads words only, no codes")
        self.sizes, self.network = tuple(sizes), network
        width: int = network.config.d_model
        with torch.no_grad():
            first = network.get_input_embeddings()(torch.tensor([start]))[0]
        self.start = nn.Parameter(first.clone())
        self.embeddings = nn.ModuleList(nn.Embedding(n, width) for n in self.sizes[:-1])
        self.heads = nn.ModuleList(nn.Linear(width, n, bias=False) for n in self.sizes)
        for table in (*self.embeddings.parameters(), *self.heads.parameters()):
            nn.init.normal_(table, std=width**-0.5)

    def forward(self, memory: Tensor, mask: Tensor, codes: Tensor) -> list[Tensor]:
        """Logits of each level, B×K_l, after the true codes before it.

        Args:
            memory: B×T×width, of the texts.
            mask: B×T, true where there is text.
            codes: B×L.
        """
        parts = [self.start.expand(len(codes), 1, -1)]
        for level, embedding in enumerate(self.embeddings):
            parts.append(embedding(codes[:, level : level + 1]))
        states = self.states(torch.cat(parts, dim=1), memory, mask)
        return [head(states[:, level]).float() for level, head in enumerate(self.heads)]

    def states(self, read: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """B×L×width states of B×L×width vectors of codes."""
        output = self.network(
            inputs_embeds=read,
            encoder_hidden_states=memory,
            encoder_attention_mask=mask.long(),
            use_cache=False,
        )
        states: Tensor = output.last_hidden_state
        return states

    def decoding(self, memory: Tensor, mask: Tensor) -> ForeignDecoding:
        """Begin to decode Q texts: a `beam.Stepper`."""
        return ForeignDecoding(self, memory, mask)


class ForeignDecoding:
    """Q texts being decoded; see `beam.Stepper`."""

    def __init__(self, decoder: ForeignDecoder, memory: Tensor, mask: Tensor) -> None:
        self._decoder, self._memory, self._mask = decoder, memory, mask
        self._read = decoder.start.to(memory.dtype).expand(len(memory), 1, 1, -1)

    def begin(self) -> Tensor:
        return self._step()

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        at = torch.arange(len(parents), device=parents.device)[:, None]
        embedding = self._decoder.embeddings[self._read.shape[2] - 1]
        newest = embedding(codes).to(self._read.dtype)
        self._read = torch.cat([self._read[at, parents], newest[:, :, None]], dim=2)
        return self._step()

    def _step(self) -> Tensor:
        """Q×W×K log-probabilities after the codes that each beam has read."""
        queries, beams, length, _ = self._read.shape
        memory, mask = (x.repeat_interleave(beams, 0) for x in (self._memory, self._mask))
        states = self._decoder.states(self._read.flatten(0, 1), memory, mask)[:, -1]
        logits: Tensor = self._decoder.heads[length - 1](states).float()
        return logits.log_softmax(dim=-1).view(queries, beams, -1)
