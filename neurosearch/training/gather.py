"""Cross-device negatives: every process sees all processes' vectors, with correct gradients.

Each process encodes its share of the batch; `gathered` gives all of them the whole batch's
vectors. Either each computes the whole loss, and the gradient of its own share is then complete; or
each computes the loss of its share of the queries, and the vectors' gradients are summed over
processes. A gather that detaches, or keeps only the local loss, would lose the rest. The network's
gradient is the plain sum over processes (`sum_gradients`): no scaling by the world size.
Where there is only one process all of it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function

from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.core.ragged import offsets_of
from neurosearch.nn.taken import taken


def shares(order: np.ndarray) -> list[np.ndarray]:
    """What each process encodes of `order`: every n-th, so that lengths are alike.

    Raises InputError where some would have nothing.
    """
    _, processes = world()
    if len(order) < processes:
        raise InputError(f"runtime.devices={processes}: a batch of {len(order)} is too small")
    return [order[rank::processes] for rank in range(processes)]


@dataclass(frozen=True)
class Part:
    """The queries whose losses a process computes, and the order in which it sees the documents.

    Attributes:
        queries: numbers of the queries; all of them where losses are not shared.
        documents: all documents; the first are the own ones of `queries`, then those of the other
            queries, then the rest.
        weight: share of the queries.
        is_shared: whether other processes compute the losses of other queries.
    """

    queries: np.ndarray
    documents: np.ndarray
    weight: float
    is_shared: bool

    @classmethod
    def of(cls, queries: int, documents: int, by_query: bool) -> Part:
        """This process's part; the whole batch unless the loss is a mean over queries."""
        rank, processes = world()
        if processes == 1 or not by_query:
            return cls(np.arange(queries), np.arange(documents), 1.0, False)
        mine = np.arange(rank, queries, processes)
        others = np.setdiff1d(np.arange(queries), mine)
        order = np.concatenate([mine, others, np.arange(queries, documents)])
        return cls(mine, order, len(mine) / queries, True)


def gathered(local: Tensor, counts: list[int], is_shared: bool = False) -> Tensor:
    """N×D vectors of all processes, in order of rank, from each one's counts[rank]×D.

    `is_shared`: each process's loss is a part, so gradients are summed over processes.
    """
    if world()[1] == 1:
        return local
    result: Tensor = _Gather.apply(local, counts, is_shared)  # type: ignore[no-untyped-call]
    return result


def in_order(
    local: Tensor,
    order: list[np.ndarray],
    rows: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
    is_shared: bool = False,
) -> Tensor:
    """All processes' vectors by the numbers of their texts.

    Args:
        local: this process's.
        order: numbers of each process's texts (of `shares`).
        rows: how many vectors each text has, by its number; one where it is None.
        wanted: numbers of the texts that are returned, in this order; all of them by default.
        is_shared: see `gathered`.
    """
    texts = np.concatenate(order)
    rows = np.ones(len(texts), dtype=np.int64) if rows is None else rows
    wanted = np.arange(len(texts)) if wanted is None else wanted
    places = torch.from_numpy(row_order(texts, rows, wanted)).to(local.device)
    counts = [int(rows[share].sum()) for share in order]
    return taken(gathered(local, counts, is_shared), places)


def row_order(texts: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where the vectors of `wanted` texts lie, when texts come as `texts` says.

    `counts`: vectors of each text, by its number.
    """
    begin = np.empty(len(counts), dtype=np.int64)
    begin[texts] = np.cumsum(counts[texts]) - counts[texts]
    own = counts[wanted]
    places: np.ndarray = np.arange(own.sum()) + np.repeat(begin[wanted] - offsets_of(own)[:-1], own)
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
    def forward(ctx: Any, local: Tensor, counts: list[int], is_shared: bool) -> Tensor:
        rank, processes = world()
        ctx.is_shared = is_shared
        ctx.first, ctx.count = sum(counts[:rank]), counts[rank]
        # All processes must send as much.
        sent = local.new_zeros((max(counts), local.shape[1]))
        sent[: len(local)] = local
        received = [torch.empty_like(sent) for _ in range(processes)]
        dist.all_gather(received, sent)
        return torch.cat([part[:count] for part, count in zip(received, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        whole = gradients[0].contiguous()
        if ctx.is_shared:
            whole = whole.clone()  # autograd's own must not be changed
            dist.all_reduce(whole)
        return whole[ctx.first : ctx.first + ctx.count], None, None
