"""GradCache (Gao et al. 2021): the gradient of a batch that doesn't fit, chunk by chunk, exactly.

1. Encode all chunks without a graph, keeping vectors and random states. 2. The loss on the
vectors gives their gradients (and those of the loss's own parameters). 3. Encode each chunk
again under the same random state, with a graph, and send its vectors' gradients back. Unlike
gradient accumulation every document stays a negative of every query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Encode = Callable[[Any], "Tensor"]


def cached_backward(
    encode: Encode,
    chunks: Sequence[Any],
    loss_of: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor], None],
) -> Tensor:
    """The gradient of a loss over a batch that does not fit at once (GradCache, Gao et al. 2021).

    Args:
        encode: a chunk to N×D vectors.
        chunks: of the batch.
        loss_of: all N×D vectors to a scalar.
        backward: runs a backward pass (Lightning's manual_backward, or Tensor.backward).

    Returns:
        The loss, detached; gradients are accumulated in the parameters.
    """
    import torch

    states, parts = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_RandomState())
            parts.append(encode(chunk))
    vectors = torch.cat([part.float() for part in parts]).requires_grad_()
    loss = loss_of(vectors)
    backward(loss)
    assert vectors.grad is not None
    gradients = torch.split(vectors.grad, [len(part) for part in parts])
    for chunk, state, gradient in zip(chunks, states, gradients, strict=True):
        with state:
            again = encode(chunk)
        backward((again.float() * gradient).sum())
    return loss.detach()


class _RandomState:
    """The generators' state now; as a context, that state again, and then what it was."""

    def __init__(self) -> None:
        import torch

        self._cpu = torch.get_rng_state()
        on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cuda = torch.cuda.get_rng_state_all() if on_gpu else []

    def __enter__(self) -> None:
        import torch

        devices = list(range(len(self._cuda)))
        self._fork = torch.random.fork_rng(devices=devices)
        self._fork.__enter__()
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)

    def __exit__(self, *error: Any) -> None:
        self._fork.__exit__(*error)
