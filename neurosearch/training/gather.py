"""Cross-device negatives: every process sees all processes' vectors, with correct gradients.

Each process encodes its share of the batch; `gathered` gives all of them the whole batch's
vectors, and each computes the whole loss. The gradient of a process's own share is then
complete, unlike under a gather that detaches (or keeps only the local loss), and the network's
gradient is the plain sum over processes (`sum_gradients`): no scaling by the world size.
Where there is only one process both change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError


def shares(order: np.ndarray) -> list[np.ndarray]:
    """What each process encodes of `order`: every n-th, so that lengths are alike.

    Raises InputError where some would have nothing.
    """
    _, processes = world()
    if len(order) < processes:
        raise InputError(f"runtime.devices={processes}: a batch of {len(order)} is too small")
    return [order[rank::processes] for rank in range(processes)]


def gathered(local: Tensor, counts: list[int]) -> Tensor:
    """N×D vectors of all processes, in order of rank, from each one's counts[rank]×D."""
    if world()[1] == 1:
        return local
    result: Tensor = _Gather.apply(local, counts)  # type: ignore[no-untyped-call]
    return result


def in_order(local: Tensor, order: list[np.ndarray], rows: np.ndarray | None = None) -> Tensor:
    """All processes' vectors in the order of texts, whose numbers `order` has (of `shares`).

    `rows`: how many vectors each text has, by its number; one where it is None.
    """
    texts = np.concatenate(order)
    rows = np.ones(len(texts), dtype=np.int64) if rows is None else rows
    places = torch.from_numpy(row_order(texts, rows)).to(local.device)
    return gathered(local, [int(rows[share].sum()) for share in order])[places]


def row_order(texts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Where each vector lies, in the order of texts, when texts come as `texts` says.

    `counts`: vectors of each text, by its number.
    """
    begin = np.empty(len(counts), dtype=np.int64)
    begin[texts] = np.cumsum(counts[texts]) - counts[texts]
    first = np.cumsum(counts) - counts
    places: np.ndarray = np.arange(counts.sum()) + np.repeat(begin - first, counts)
    return places


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Every parameter's gradient becomes its sum over processes."""
    if world()[1] == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([part.reshape(-1) for part in parts])
    dist.all_reduce(flat)
    totals = torch.split(flat, [p.numel() for p in trained])
    for parameter, total in zip(trained, totals, strict=True):
        parameter.grad = total.view_as(parameter)


def summed(value: Tensor) -> Tensor:
    """The sum of the processes' values, without a gradient: for logs."""
    total = value.detach()
    if world()[1] > 1:
        total = total.clone()
        dist.all_reduce(total)
    return total


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, counts: list[int]) -> Tensor:
        rank, processes = world()
        ctx.first, ctx.count = sum(counts[:rank]), counts[rank]
        # All processes must send as much.
        sent = local.new_zeros((max(counts), local.shape[1]))
        sent[: len(local)] = local
        received = [torch.empty_like(sent) for _ in range(processes)]
        dist.all_gather(received, sent)
        return torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][ctx.first : ctx.first + ctx.count], None
