"""A tower's forward and backward passes as CUDA graphs, for steps that are bound by launching.

Few texts of a training step take a GPU less time than Python takes to launch their kernels. Texts
are padded to one of a few lengths, and for each of them the passes are captured once
(`torch.cuda.make_graphed_callables`) and replayed; the loss, clipping and the optimizer stay plain
calls. Casts to half precision are inside the graph, so they see the weights as they are at each
step; dropout draws anew at each replay, from the generator that a step seeds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from neurosearch.core.errors import first_line
from neurosearch.core.machine import log
from neurosearch.nn.exchange import Vectors
from neurosearch.nn.text_encoder import TextTower, padded
from neurosearch.nn.tokens import Tokens

LENGTHS = (8, 16, 24, 32, 48, 64)  # tokens of a text
CELLS = 8_192  # padded tokens of a batch, from which computing takes longer than launching
KEPT = 12  # graphs


class CapturedTower:
    """The graphs of one tower in training mode; the least recently used ones are forgotten."""

    def __init__(self, tower: TextTower, device: torch.device, half: bool) -> None:
        self._tower, self._device, self._half = tower, device, half
        self._known: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._failed = False

    def fits(self, tokens: Tokens) -> bool:
        """Whether a batch is small enough to be bound by launching.

        Args:
            tokens: of the texts.

        Returns:
            False where plain calls must do.
        """
        longest = int(tokens.lengths.max())
        small = longest <= LENGTHS[-1] and len(tokens) * _room(longest) <= CELLS
        return small and self._tower.training and not self._failed

    def encode(self, tokens: Tokens) -> Tensor | None:
        """N×D vectors with a graph for the gradients; None where they can't be captured.

        Args:
            tokens: of N texts.

        Returns:
            Vectors in the order of the texts.
        """
        shape = len(tokens), _room(int(tokens.lengths.max()))
        passes = self._known.get(shape)
        if passes is None:
            try:
                passes = self._captured(*shape)
            except (RuntimeError, NotImplementedError) as error:
                self._failed = True
                log.warning("training is not captured as CUDA graphs: %s", first_line(error))
                return None
            self._known[shape] = passes
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(shape)
        batch = padded(tokens, torch.device("cpu"))
        assert batch.mask is not None
        both = torch.zeros(2, *shape, dtype=torch.long)
        both[0, :, : batch.longest], both[1, :, : batch.longest] = batch.tokens, batch.mask
        ids, mask = both.pin_memory().to(self._device, non_blocking=True)
        with self._autocast():
            vectors: Tensor = passes(ids, mask)
        return vectors

    def _captured(self, count: int, length: int) -> Any:
        ids = torch.zeros(count, length, dtype=torch.long, device=self._device)
        mask = torch.ones_like(ids)
        with torch.random.fork_rng(devices=[self._device]), self._autocast():
            return torch.cuda.make_graphed_callables(Vectors(self._tower), (ids, mask))

    def _autocast(self) -> Any:
        # A cache of casts that is filled outside a graph would be of freed or stale weights in it.
        kind = torch.bfloat16 if self._half else torch.float32
        return torch.autocast("cuda", kind, enabled=self._half, cache_enabled=False)


def _room(longest: int) -> int:
    """The length that texts are padded to."""
    return next((length for length in LENGTHS if length >= longest), longest)
