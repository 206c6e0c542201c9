"""Constrained beam search over a trie: all queries' beams at once, as tensors on the device.

A step extends every beam by the codes that its node has, and keeps the `width` best sums of
log-probabilities of each query. IDs have one length, so nothing is normalised by length and
nothing ends early; nothing is read back to the host inside a step. With a beam of at least the
number of IDs this is exhaustive scoring. At most as many beams are kept as a level has nodes, so
every beam that comes out is an ID of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neurosearch.generator.trie import Level, Trie


class Stepper(Protocol):
    """A sequence model in the course of decoding Q queries."""

    def begin(self) -> Tensor:
        """Q×1×K float32 log-probabilities of the first code."""

    def advance(self, parents: Tensor, codes: Tensor) -> Tensor:
        """Q×W×K of the next code, after beam w took over the history of beam parents[q, w] of
        the step before and appended codes[q, w]."""


@dataclass(frozen=True)
class Beams:
    """Attributes:
    scores: Q×W float32 summed log-probabilities, best first; -inf where a query has no more.
    nodes: Q×W int64 nodes of the level that was reached (leaves, at the last one).
    codes: Q×W×l int64.
    """

    scores: Tensor
    nodes: Tensor
    codes: Tensor


def beam_search(model: Stepper, trie: Trie, width: int, depth: int | None = None) -> Beams:
    """The best IDs of each query, by a beam that never leaves the catalogue's trie.

    Args:
        model: that gives the next code's log-probabilities.
        trie: of the catalogue's IDs.
        width: of the beam.
        depth: codes of a prefix to stop at; None for whole IDs.

    Returns:
        Scores, nodes and codes of `width` beams a query, best first.
    """
    logp = model.begin()
    scores = logp.new_zeros(logp.shape[:2])
    nodes = torch.zeros(scores.shape, dtype=torch.long, device=logp.device)
    history = nodes.new_empty((*nodes.shape, 0))
    levels = trie.levels[:depth]
    for number, level in enumerate(levels):
        scores, nodes, codes, parents = extend(level, logp, scores, nodes, width)
        kept = history.gather(1, parents[..., None].expand(-1, -1, number))
        history = torch.cat([kept, codes[..., None]], dim=2)
        if number + 1 < len(levels):
            logp = model.advance(parents, codes)
    return Beams(scores, nodes, history)


def extend(
    level: Level, logp: Tensor, scores: Tensor, nodes: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of a beam search.

    Args:
        level: of the trie that is entered.
        logp: Q×W×K log-probabilities of the next code.
        scores, nodes: Q×W of the beams so far.
        width: of the beam.

    Returns:
        Scores, nodes, codes and parents of the best children, each Q×W'; W' is `width`, or less
        where the level has fewer nodes or the beams fewer children.
    """
    sums, children = grown(level, logp, scores, nodes)
    options = children.shape[2]
    kept = min(width, level.nodes, children[0].numel())
    best, places = sums.flatten(1).topk(kept, dim=1)
    chosen = children.flatten(1).gather(1, places).long().clamp_(min=0)
    parents = torch.div(places, options, rounding_mode="floor")
    return best, chosen, level.code[chosen], parents


def grown(level: Level, logp: Tensor, scores: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Q×W×C sums of the beams' children, -inf where there is none, and their nodes."""
    if level.table is not None:
        children = level.table[nodes]  # Q×W×K
        valid, totals = children >= 0, logp
    else:
        children, valid = level.children(nodes)  # Q×W×C
        totals = logp.gather(2, level.code[children])
    return (totals + scores[..., None]).masked_fill_(~valid, -torch.inf), children


def free_search(model: Stepper, sizes: tuple[int, ...], width: int) -> Beams:
    """As `beam_search`, but over all sequences of codes, whether the catalogue has them or not;
    `nodes` are zeros."""
    logp = model.begin()
    scores = logp.new_zeros(logp.shape[:2])
    history = torch.zeros((*scores.shape, 0), dtype=torch.long, device=logp.device)
    for number in range(len(sizes)):
        sums = (logp + scores[..., None]).flatten(1)
        scores, places = sums.topk(min(width, sums.shape[1]), dim=1)
        parents = torch.div(places, sizes[number], rounding_mode="floor")
        codes = places % sizes[number]
        kept = history.gather(1, parents[..., None].expand(-1, -1, number))
        history = torch.cat([kept, codes[..., None]], dim=2)
        if number + 1 < len(sizes):
            logp = model.advance(parents, codes)
    return Beams(scores, torch.zeros_like(parents), history)
