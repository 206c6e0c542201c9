"""Token ids of many texts, flat: what encoders batch from, without a list of lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from neurosearch.core.ragged import offsets_of


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


def batches_by_budget(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Rows in batches of similar length, each at most `budget` padded tokens (or one row)."""
    order = np.argsort(np.asarray(lengths), kind="stable")[::-1]
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
