"""Rows of a tensor in another order, each at most once.

Plain indexing doesn't know that its rows differ: its gradient sorts them and sums, which on a GPU
takes longer than an encoder's layer. Here the gradient is a copy.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function


def taken(values: Tensor, places: Tensor) -> Tensor:
    """`values[places]`, where no place comes twice.

    Args:
        values: N×….
        places: M int64 rows, M ≤ N, on the device of `values`.

    Returns:
        M×….
    """
    result: Tensor = _Taken.apply(values, places)  # type: ignore[no-untyped-call]
    return result


class _Taken(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.rows = len(values)
        return values.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        (gradient,) = gradients
        whole = gradient.new_zeros((ctx.rows, *gradient.shape[1:]))
        return whole.index_copy_(0, places, gradient), None
