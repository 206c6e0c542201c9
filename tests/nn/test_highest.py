"""The highest logit of each term against plain autograd."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neurosearch.nn.highest import highest


def drawn(lengths: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, places, embeddings and bias of texts of these lengths; 11 terms, width 5."""
    rng = torch.Generator().manual_seed(seed)
    parts = [torch.randn(n, 5, generator=rng, dtype=torch.double) for n in lengths]
    places = torch.full((len(lengths), max(lengths)), -1)
    for text, (length, end) in enumerate(zip(lengths, np.cumsum(lengths), strict=True)):
        places[text, :length] = torch.arange(end - length, end)
    embeddings = torch.randn(11, 5, generator=rng, dtype=torch.double)
    bias = torch.randn(11, generator=rng, dtype=torch.double)
    tensors = [x.requires_grad_() for x in (torch.cat(parts), embeddings, bias)]
    return tensors[0], places, tensors[1], tensors[2]


def plainly(states: Tensor, places: Tensor, embeddings: Tensor, bias: Tensor) -> Tensor:
    """Text by text."""
    rows = [states[own[own >= 0]] @ embeddings.T + bias for own in places]
    return torch.stack([logits.amax(dim=0) for logits in rows])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 99))
def test_values_and_gradients_are_autograds(lengths: list[int], seed: int) -> None:
    states, places, embeddings, bias = drawn(lengths, seed)
    wanted = torch.relu(plainly(states, places, embeddings, bias)).log1p()
    found = torch.relu(highest(states, places, embeddings, bias)).log1p()
    torch.testing.assert_close(found, wanted)
    weights = torch.randn(wanted.shape, dtype=torch.double)
    inputs = (states, embeddings, bias)
    expected = torch.autograd.grad((wanted * weights).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), inputs), expected)


def test_no_gradient_where_no_term_counts() -> None:
    states, places, embeddings, bias = drawn([2, 3], 0)
    weights = torch.relu(highest(states, places, embeddings, bias) - 1e6)
    for gradient in torch.autograd.grad(weights.sum(), (states, embeddings, bias)):
        assert not gradient.any()
