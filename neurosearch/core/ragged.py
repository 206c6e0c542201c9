"""Rows of different lengths in one flat array: where each begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def offsets_of(lengths: np.ndarray | Sequence[int]) -> np.ndarray:
    """Begin of each row, and the end of the last.

    Args:
        lengths: N lengths.

    Returns:
        N+1 int64: row i is flat[offsets[i]:offsets[i + 1]].
    """
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
