"""Decoding of few queries as one captured CUDA graph: reader and all steps in a single launch.

A step of constrained decoding takes a GPU less time than Python takes to launch its kernels. A
graph is captured once for a number of queries and a length, both rounded up, and replayed: inputs
are copied to where the graph reads them, and what it has written is copied out. Padded queries
have one token, since a softmax over nothing is not a number; they are dropped.

(CUDA graphs: NVIDIA's programming guide; `torch.cuda.CUDAGraph`.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from neurosearch.core.errors import first_line
from neurosearch.core.machine import log
from neurosearch.nn.text_encoder import Batch, padded
from neurosearch.nn.tokens import Tokens

# Of a graph; more are no longer bound by launching. Between these a GPU's matrix products take
# longer for fewer rows, and for one query of ten beams three times as long as for four.
QUERIES = (4, 32, 64)
LENGTHS = (16, 32, 64, 128)  # tokens of a text
KEPT = 16  # graphs
WARM_UPS = 3

Work = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Captured:
    """A graph, where it reads, and where it has written."""

    replay: Callable[[], Any]
    tokens: Tensor
    mask: Tensor
    written: tuple[Tensor, ...]
    keeps: tuple[Any, ...]  # whose memory the graph reads


class Graphs:
    """The graphs of one network; the least recently used ones are forgotten.

    Attributes:
        failed: a capture did not work, and nothing more is captured.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Any, ...], Captured] = OrderedDict()
        self._pool: Any = None
        self.failed = False

    def fits(self, tokens: Tokens, device: torch.device) -> bool:
        """Whether texts are few and short enough.

        Args:
            tokens: of the texts.
            device: that they are read on.

        Returns:
            False where plain calls must do.
        """
        few = 0 < len(tokens) <= QUERIES[-1] and int(tokens.lengths.max()) <= LENGTHS[-1]
        return device.type == "cuda" and few and not self.failed

    def run(
        self, key: tuple[Any, ...], work: Work, tokens: Tokens, device: torch.device
    ) -> tuple[Tensor, ...] | None:
        """What `work` gives for the texts; None where it can't be captured.

        Args:
            key: of what changes the work but its inputs; objects in it are kept alive.
            work: from B×T tokens and their mask to tensors with B rows.
            tokens: of at most QUERIES[-1] texts.
            device: a GPU.

        Returns:
            Tensors that the next call overwrites nothing of.
        """
        count = len(tokens)
        rows = next(n for n in QUERIES if n >= count)
        length = next(n for n in LENGTHS if n >= int(tokens.lengths.max()))
        whole = (rows, length, *(part if isinstance(part, int) else id(part) for part in key))
        held = self._known.get(whole)
        if held is None:
            try:
                held = self._captured(work, rows, length, device, key)
            except (RuntimeError, NotImplementedError) as error:
                self.failed = True
                log.warning("decoding is not captured as a CUDA graph: %s", first_line(error))
                return None
            self._known[whole] = held
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(whole)
        fill(held, padded(tokens, torch.device("cpu")))
        held.replay()
        return tuple(values[:count].clone() for values in held.written)

    def _captured(
        self, work: Work, rows: int, length: int, device: torch.device, key: tuple[Any, ...]
    ) -> Captured:
        tokens = torch.zeros(rows, length, dtype=torch.long, device=device)
        mask = torch.zeros_like(tokens)
        mask[:, 0] = 1
        side = cast(Any, torch.cuda).Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work(tokens, mask)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            written = work(tokens, mask)
        return Captured(graph.replay, tokens, mask, written, key)


def fill(held: Captured, batch: Batch) -> None:
    """Copy texts to where a graph reads them; what is left over reads one token each.

    Args:
        held: the graph.
        batch: of at most as many texts, no longer than the graph's.
    """
    assert batch.mask is not None
    texts, longest = batch.tokens.shape
    tokens = torch.zeros(held.tokens.shape, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    mask[:, 0] = 1
    tokens[:texts, :longest] = batch.tokens
    mask[:texts, :longest] = batch.mask
    held.tokens.copy_(tokens)
    held.mask.copy_(mask)
