"""Rows in another order: the same values and gradients as by plain indexing."""

from __future__ import annotations

import torch

from neurosearch.nn.taken import taken


def test_values_and_gradients_are_those_of_indexing() -> None:
    torch.manual_seed(0)
    values = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    places = torch.tensor([5, 0, 6, 2])
    weights = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(taken(values, places), values[places])
    (ours,) = torch.autograd.grad((taken(values, places) ** 2 * weights).sum(), values)
    (theirs,) = torch.autograd.grad((values[places] ** 2 * weights).sum(), values)
    assert torch.equal(ours, theirs) and not ours[1].any()
    assert torch.autograd.gradcheck(lambda v: taken(v, places), (values,))


def test_it_runs_where_nothing_is_learnt() -> None:
    with torch.inference_mode():
        assert taken(torch.arange(3.0), torch.tensor([2, 0])).tolist() == [2.0, 0.0]
