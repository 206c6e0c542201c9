"""Residual quantization's core: codes of vectors given codebooks, by beam search.

The vector is approximated by a sum of one codeword a level. Appending code k of level l to a
prefix changes the squared error by  -2 x.e_lk + |e_lk|^2 + 2 sum_m<l e_mc.e_lk.  All products
x.e are one matrix multiplication and all e.e a table, so a beam costs additions only and no
residual is ever written down (the decomposition of FAISS's additive quantizers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 8192  # vectors at a time


def assign(vectors: np.ndarray, codebooks: np.ndarray, beam: int = 1) -> np.ndarray:
    """Codes under residual codebooks, by a beam search over levels.

    Args:
        vectors: N×D.
        codebooks: L×K×D.
        beam: sums kept on each level; 1 is greedy.

    Returns:
        N×L int32.
    """
    import torch

    levels, size, _ = codebooks.shape
    books = torch.from_numpy(np.ascontiguousarray(codebooks, dtype=np.float32))
    flat = books.reshape(levels * size, -1)
    grams = (flat @ flat.T).reshape(levels, size, levels, size)
    norms = books.square().sum(dim=2)
    result = np.empty((len(vectors), levels), dtype=np.int32)
    for rows, part in _chunks(vectors, max(256, CHUNK // beam)):
        products = (part @ flat.T).reshape(len(part), levels, size)
        errors = torch.zeros(len(part), 1)
        codes = torch.zeros(len(part), 1, 0, dtype=torch.long)
        for level in range(levels):
            change = norms[level] - 2 * products[:, level]  # n×K, the same for every prefix
            scores = errors[:, :, None] + change[:, None, :]  # n×B×K
            for earlier in range(level):
                scores += 2 * grams[earlier, :, level, :][codes[:, :, earlier]]
            width = min(beam, scores.shape[1] * size)
            errors, places = scores.flatten(1).topk(width, dim=1, largest=False)
            parents = torch.div(places, size, rounding_mode="floor")
            kept = codes.gather(1, parents[:, :, None].expand(-1, -1, level))
            codes = torch.cat([kept, (places % size)[:, :, None]], dim=2)
        result[rows] = codes[:, 0].numpy()
    return result


def last_costs(vectors: np.ndarray, codebooks: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """What each last code would cost.

    Args:
        vectors: N×D.
        codebooks: L×K×D.
        codes: N×L; all but the last are kept.

    Returns:
        N×K squared distances.
    """
    import torch

    left = torch.from_numpy(residuals(vectors, codebooks[:-1], codes[:, :-1]))
    costs: np.ndarray = torch.cdist(left, torch.from_numpy(codebooks[-1])).square().numpy()
    return costs


def decode(codebooks: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """N×D sums of the first codes.shape[1] levels' codewords."""
    total = np.zeros((len(codes), codebooks.shape[2]), dtype=np.float32)
    for level in range(codes.shape[1]):
        total += codebooks[level][codes[:, level]]
    return total


def residuals(vectors: np.ndarray, codebooks: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """What is left of the vectors."""
    left: np.ndarray = np.asarray(vectors, dtype=np.float32) - decode(codebooks, codes)
    return left


def _chunks(vectors: np.ndarray, size: int) -> Iterator[tuple[slice, Tensor]]:
    import torch

    for start in range(0, len(vectors), size):
        rows = slice(start, start + size)
        yield rows, torch.from_numpy(np.array(vectors[rows], dtype=np.float32))
