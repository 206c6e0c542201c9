"""Token ids of many texts, flat: what encoders batch from, without a list of lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from neurosearch.core.ragged import offsets_of

BATCHES = 16  # a batch costs (launching kernels) about what this part of the budget costs


@dataclass(frozen=True)
class Tokens:
    """N texts: text i is ids[offsets[i]:offsets[i + 1]] (int64), special tokens included."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """N int64."""
        lengths: np.ndarray = self.offsets[1:] - self.offsets[:-1]
        return lengths

    @classmethod
    def joined(cls, *parts: Tokens) -> Tokens:
        """The texts of all parts, one part after another."""
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(np.concatenate([part.ids for part in parts]), offsets_of(lengths))

    def take(self, rows: np.ndarray) -> Tokens:
        """Only these texts, in this order."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        shift = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Tokens(self.ids[shift + np.arange(offsets[-1])], offsets)


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> Tokens:
    """Tokens of each text, on all cores, without Python's lock.

    Args:
        tokenizer: of `tokenizers`; its truncation is set.
        max_length: tokens of a text, special ones included; what is beyond is cut.

    Returns:
        The texts' ids, flat, in their order.
    """
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
    offsets = offsets_of(np.fromiter(map(len, ids), dtype=np.int64, count=len(ids)))
    return Tokens(np.fromiter(chain.from_iterable(ids), np.int64, offsets[-1]), offsets)


def character_lengths(texts: Sequence[str]) -> np.ndarray:
    """N int64 numbers of characters, which rank texts almost as tokens do, at no cost."""
    return np.fromiter((len(text) for text in texts), dtype=np.int64, count=len(texts))


def batches_by_budget(
    lengths: np.ndarray, budget: int, is_packed: bool = False
) -> list[np.ndarray]:
    """Rows in batches of similar length, each at most `budget` tokens (or one row).

    Padded batches are cut where padding and the batches' own cost, together, are least (by dynamic
    programming over the lengths). A fixed number of tokens a batch would pad more, the fewer texts
    there are: a process that encodes a part of a training batch would take longer than its share.

    Args:
        lengths: tokens of each text.
        budget: tokens of a batch; padding counts.
        is_packed: nothing is padded, so a batch takes as many texts as fit.

    Returns:
        Rows of each batch, the longest texts first.
    """
    lengths = np.asarray(lengths)
    order = np.argsort(lengths, kind="stable")[::-1]
    cut = _filled if is_packed else _least_padded
    return np.split(order, cut(lengths[order], budget)[:-1]) if len(order) else []


def _filled(lengths: np.ndarray, budget: int) -> list[int]:
    """Where batches end that hold as many texts as fit."""
    total, ends = offsets_of(lengths), []
    begin = 0
    while begin < len(lengths):
        fitting = int(np.searchsorted(total, total[begin] + budget, side="right")) - 1
        begin = max(begin + 1, fitting)
        ends.append(begin)
    return ends


def _least_padded(lengths: np.ndarray, budget: int) -> list[int]:
    """Where batches of descending lengths end; equal lengths are cut only by the budget."""
    first = np.flatnonzero(np.diff(lengths, prepend=lengths[0] + 1))
    begin, widths = np.append(first, len(lengths)), lengths[first]
    fitting = np.maximum(1, budget // np.maximum(1, widths))  # texts of a batch so wide
    least = np.zeros(len(begin))
    start_of = np.zeros(len(begin), dtype=np.int64)
    for end in range(1, len(begin)):
        count = begin[end] - begin[:end]
        batches = -(-count // fitting[:end])
        cost = least[:end] + count * widths[:end] + batches * (budget // BATCHES)
        start_of[end] = int(cost.argmin())
        least[end] = cost[start_of[end]]
    ends: list[int] = []
    end = len(first)
    while end:
        start = int(start_of[end])
        count, size = int(begin[end] - begin[start]), int(fitting[start])
        parts = -(-count // size)
        ends += [int(begin[start]) + count * part // parts for part in range(parts, 0, -1)]
        end = start
    return ends[::-1]
