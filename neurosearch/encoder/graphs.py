"""Training steps of small encoders as CUDA graphs: one launch forward, one backward.

A MiniLM step launches some eight hundred kernels that take less time than launching them. A
graph replays them all at once, but for fixed shapes only. Packed batches come near that by
themselves: here they are filled up with texts of padding tokens to a multiple of `grain`
tokens, so that a training meets two or three shapes, each captured when first met.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosearch.encoder.network import Batch, TextTower, packed
from neurosearch.encoder.tokens import Tokens

FILLERS = 16  # texts that share the filling, so that none is longer than a real one


class GraphedTower:
    """A tower in training mode, of texts of at most `longest` tokens.

    Vectors and gradients are the tower's. Gradients are added to `.grad`, which must be there:
    a captured backward pass writes to the same memory every time.
    """

    def __init__(self, tower: TextTower, longest: int, device: torch.device) -> None:
        self._tower, self._longest, self._device = tower, longest, device
        self._graphs: dict[tuple[int, int], Any] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, tokens: Tokens) -> Tensor:
        """N×D vectors in the order of `tokens`."""
        batch = packed(filled(tokens, self._longest), self._device)
        inputs = batch.tokens, batch.positions, batch.bounds
        shape = len(tokens), batch.tokens.shape[1]
        if shape not in self._graphs:
            self._graphs[shape] = self._captured(inputs)
        vectors: Tensor = self._graphs[shape](*inputs)
        return vectors[: len(tokens)].clone()  # the next replay writes where this one did

    def _captured(self, inputs: tuple[Any, ...]) -> Any:
        step = _Step(self._tower, self._longest)
        # Weights cast before the capture would be stale in every replay.
        half = torch.is_autocast_enabled(self._device.type)
        with torch.autocast(self._device.type, torch.bfloat16, half, cache_enabled=False):
            states = torch.cuda.get_rng_state(self._device)
            graphed = torch.cuda.make_graphed_callables(
                step, tuple(x.clone() for x in inputs), allow_unused_input=True, pool=self._pool
            )
            torch.cuda.set_rng_state(states, self._device)
        return graphed


class _Step(nn.Module):
    def __init__(self, tower: TextTower, longest: int) -> None:
        super().__init__()
        self.tower, self.longest = tower, longest

    def forward(self, tokens: Tensor, positions: Tensor, bounds: Tensor) -> Tensor:
        vectors: Tensor = self.tower(Batch(tokens, None, positions, bounds, self.longest))
        return vectors


def filled(tokens: Tokens, longest: int) -> Tokens:
    """The texts and `FILLERS` more of padding tokens, together a multiple of the grain."""
    grain = FILLERS * (longest - 1)
    used = len(tokens.ids) + FILLERS
    fill = FILLERS + -used % grain
    lengths = np.full(FILLERS, fill // FILLERS)
    lengths[: fill % FILLERS] += 1
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens.joined(tokens, Tokens(np.zeros(fill, dtype=np.int64), offsets))
