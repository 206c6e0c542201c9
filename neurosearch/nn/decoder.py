"""Blocks of a decoder: T5's attention, feed-forward and normalisation (Raffel et al. 2020).

A block reads all positions at once in training, and one a step when it writes; then keys and values
of what was written are kept, and a text's own are computed once and shared by all that is written
for it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, relu, scaled_dot_product_attention

FEW = 16  # positions


class Shape(Protocol):
    """Width of the states and of the feed-forward, heads and their width, dropout; `gated`: T5
    1.1's gated GELU instead of a ReLU."""

    @property
    def width(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def head_width(self) -> int: ...

    @property
    def feed(self) -> int: ...

    @property
    def dropout(self) -> float: ...

    @property
    def gated(self) -> bool: ...


class Norm(nn.Module):
    """Root mean square normalisation, as T5's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = nn.functional.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-6)
        return scaled


class Attention(nn.Module):
    """T5's: no biases, and no scale, which its initial weights contain."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.heads * shape.head_width
        self.heads, self.dropout = shape.heads, shape.dropout
        self.q = nn.Linear(shape.width, inner, bias=False)
        self.k = nn.Linear(shape.width, inner, bias=False)
        self.v = nn.Linear(shape.width, inner, bias=False)
        self.o = nn.Linear(inner, shape.width, bias=False)
        for matrix, scale in ((self.q, shape.width * shape.head_width), (self.k, shape.width)):
            nn.init.normal_(matrix.weight, std=scale**-0.5)
        nn.init.normal_(self.v.weight, std=shape.width**-0.5)
        nn.init.normal_(self.o.weight, std=inner**-0.5)

    def split(self, x: Tensor) -> Tensor:
        """B×T×(H·d) to B×H×T×d."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """B×H×T×d to B×T×width."""
        mask = None if bias is None else bias.to(q.dtype)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        output: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return output


class Feed(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.feed, bias=False) if shape.gated else None
        self.wi = nn.Linear(shape.width, shape.feed, bias=False)
        self.wo = nn.Linear(shape.feed, shape.width, bias=False)
        nn.init.normal_(self.wi.weight, std=shape.width**-0.5)
        nn.init.normal_(self.wo.weight, std=shape.feed**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        inner = (
            relu(self.wi(x))
            if self.gate is None
            else gelu(self.gate(x), approximate="tanh") * self.wi(x)
        )
        outputs: Tensor = self.wo(inner)
        return outputs


class Block(nn.Module):
    """Attention to what was written, attention to the text that is read, feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dropout = shape.dropout
        self.self_attention, self.cross, self.feed = Attention(shape), Attention(shape), Feed(shape)
        self.norms = nn.ModuleList(Norm(shape.width) for _ in range(3))

    def forward(self, states: Tensor, memory: Tensor, beyond: Tensor, bias: Tensor) -> Tensor:
        """B×L×width to the same, all positions at once.

        Args:
            states: B×L×width.
            memory: B×T×width of the texts that are read.
            beyond: B×1×1×T, 0 where there is text and -inf beyond it.
            bias: 1×H×L×L added to the scores, -inf for what is yet to be written.
        """
        drop = self.dropout if self.training else 0.0
        x, own = self.norms[0](states), self.self_attention
        q, k, v = (own.split(matrix(x)) for matrix in (own.q, own.k, own.v))
        states = states + dropout(own.attend(q, k, v, bias), drop)
        cross = self.cross
        q = cross.split(cross.q(self.norms[1](states)))
        states = states + dropout(cross.attend(q, *self.text(memory), beyond), drop)
        return states + dropout(self.feed(self.norms[2](states)), drop)

    def text(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of B×T×width texts, each B×H×T×d."""
        return self.cross.split(self.cross.k(memory)), self.cross.split(self.cross.v(memory))

    def step(
        self,
        states: Tensor,
        kept: Tensor,
        text: tuple[Tensor, Tensor],
        beyond: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """The newest of W sequences of each of Q texts: Q×W×width to the same.

        Args:
            states: Q×W×width.
            kept: 2×Q×W×H×L×d keys and values of all positions; the last one is filled in here.
            text: see `text`.
            beyond: see `forward`.
            bias: 1×H×1×L added to the scores, or None.
        """
        own, (queries, beams, _) = self.self_attention, states.shape
        x = self.norms[0](states)
        for which, matrix in enumerate((own.k, own.v)):
            kept[which, ..., -1, :] = matrix(x).unflatten(-1, (own.heads, -1))
        keys, values = kept.flatten(1, 2)
        q = own.q(x).view(queries * beams, own.heads, 1, -1)
        mixed = attended(q, keys, values, bias).flatten(1).view(queries, beams, -1)
        states = states + own.o(mixed)
        cross = self.cross
        q = cross.split(cross.q(self.norms[1](states)))
        states = states + cross.attend(q, *text, beyond)
        outputs: Tensor = states + self.feed(self.norms[2](states))
        return outputs


def attended(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of one position to a few.

    A kernel of attention works on tiles of 64 positions; over the codes of an ID that is idle work.

    Args:
        q: B×H×1×d.
        keys, values: B×H×L×d.
        bias: 1×H×1×L added to the scores, or None.

    Returns:
        B×H×1×d.
    """
    if q.device.type != "cuda" or keys.shape[2] > FEW:
        mask = None if bias is None else bias.to(q.dtype)
        return scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=1.0)
    scores = (q * keys).sum(-1)  # B×H×L
    if bias is not None:
        scores = scores + bias[:, :, 0].to(q.dtype)
    weights = scores.softmax(-1)
    mixed: Tensor = (weights.unsqueeze(-1) * values).sum(2, keepdim=True)
    return mixed


def beyond_text(mask: Tensor) -> Tensor:
    """0 where there is text, -inf beyond it.

    Args:
        mask: B×T.

    Returns:
        B×1×1×T.
    """
    zeros = torch.zeros(mask.shape, device=mask.device)
    return zeros.masked_fill(~mask.bool(), -torch.inf)[:, None, None]
