"""Each term's highest logit over a text's tokens, with a sparse backward pass.

Without this, the gradient of a maximum over T tokens is a dense B×T×V tensor, and two products of
matrices with it. But a term whose weight is 0 has no gradient, and nearly all are: of 30,522
terms a text has some 200 where training begins and fewer later. Here the backward pass
multiplies by a sparse matrix of those alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import linear


def highest(states: Tensor, places: Tensor, embeddings: Tensor, bias: Tensor) -> Tensor:
    """The maximum over a text's tokens i of ⟨state_i, embedding_j⟩ + bias_j, for each term j.

    Args:
        states: S×H token states of all texts.
        places: B×T int64, the rows of `states` that are a text's tokens; -1 fills up short texts.
        embeddings: V×H.
        bias: V.

    Returns:
        B×V.
    """
    result: Tensor = _Highest.apply(states, places, embeddings, bias)  # type: ignore[no-untyped-call]
    return result


class _Highest(Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, places: Tensor, embeddings: Tensor, bias: Tensor
    ) -> Tensor:
        shown = states.index_select(0, places.clamp(min=0).flatten()).view(*places.shape, -1)
        logits = linear(shown, embeddings, bias)
        best, token = logits.masked_fill_((places < 0)[..., None], -torch.inf).max(dim=1)
        ctx.save_for_backward(states, places, embeddings, token.to(torch.int16))
        return best

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        states, places, embeddings, token = ctx.saved_tensors
        (gradient,) = gradients
        with torch.autocast(gradient.device.type, enabled=False):
            text, term = gradient.nonzero(as_tuple=True)
            rows = places[text, token[text, term].long()]
            shape = len(states), len(embeddings)
            values = gradient[text, term].to(embeddings.dtype)
            sparse = torch.sparse_coo_tensor(
                torch.stack([rows, term]), values, shape, check_invariants=False
            )
            of_states = torch.sparse.mm(sparse, embeddings).to(states.dtype)
            of_embeddings = torch.sparse.mm(sparse.t(), states.to(embeddings.dtype))
            of_bias = gradient.sum(dim=0, dtype=embeddings.dtype)
        return of_states, None, of_embeddings, of_bias
