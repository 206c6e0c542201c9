"""Exact MaxSim, tiled: no padding, bounded memory.

Documents are gone through in groups of one length, so that a group is a dense block: one matrix
product with all the queries' vectors, a maximum over each document's own rows, a sum over each
query's. What a group takes is bounded by `TILE`, whatever the catalogue (the idea of flash-maxsim,
without its kernel). Scores are means over a query's vectors, as in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosearch.core.ragged import offsets_of

if TYPE_CHECKING:
    from torch import Tensor

    from neurosearch.nn.ragged import Ragged

TILE = {"cpu": 2_000_000, "cuda": 200_000_000}  # inner products at a time


def exact_maxsim(queries: Ragged, documents: Ragged, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact late interaction with all documents (Khattab and Zaharia 2020).

    Args:
        queries, documents: their token vectors.
        k: documents of a query.

    Returns:
        Q×k document rows (int64) and scores (float32), best first. Which of equal scores make the
        last places, and in which order, is left to torch.
    """
    import torch

    count = len(documents.offsets) - 1
    k = min(k, count)
    device = documents.vectors.device
    tile = TILE[device.type]
    rows = np.empty((len(queries.offsets) - 1, k), dtype=np.int64)
    top_scores = np.empty((len(rows), k), dtype=np.float32)
    # As many queries at once as leave room for their scores of all documents.
    per_query = max(1, int(np.diff(queries.offsets).max(initial=1)))
    size = max(1, min(len(rows), 4 * tile // max(1, count), tile // (64 * per_query)))
    groups = list(by_length(documents.offsets))
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        begin, end = queries.offsets[part.start], queries.offsets[part.stop]
        query_tokens = queries.vectors[begin:end].to(device, documents.vectors.dtype)
        offsets = queries.offsets[part.start : part.stop + 1] - begin
        scores = scores_of_all(query_tokens, offsets, documents, groups, tile)
        best = torch.topk(scores, k, dim=1)
        rows[part] = best.indices.cpu().numpy()
        top_scores[part] = best.values.float().cpu().numpy()
    return rows, top_scores


def scores_of_all(
    query_tokens: Tensor, offsets: np.ndarray, documents: Ragged, groups: list[Any], tile: int
) -> Tensor:
    """Scores of all documents, tile by tile.

    Args:
        query_tokens: S×D vectors of all queries, one query after another.
        offsets: Q+1 places where queries begin.
        documents: their token vectors.
        groups: documents of similar lengths, which are scored together.
        tile: documents at a time.

    Returns:
        Q×N float32; documents without vectors score -1.
    """
    import torch

    device = documents.vectors.device
    count = len(documents.offsets) - 1
    lengths = torch.from_numpy(np.diff(offsets)).to(device)
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    scores = torch.full((len(lengths), count), -1.0, device=device)
    for length, rows in groups:
        step = max(1, tile // max(1, len(query_tokens) * length))
        for first in range(0, len(rows), step):
            tile_rows = rows[first : first + step]
            places = documents.offsets[tile_rows][:, None] + np.arange(length)
            if (np.diff(tile_rows) == 1).all():  # one stretch: no copy
                block = documents.vectors[places[0, 0] : places[-1, -1] + 1]
            else:
                block = documents.vectors[torch.from_numpy(places.ravel()).to(device)]
            best = (
                (block @ query_tokens.T).view(len(tile_rows), length, len(query_tokens)).amax(dim=1)
            )
            sums = torch.zeros(len(lengths), len(tile_rows), device=device)
            sums.index_add_(0, owner, best.T.float())
            scores[:, torch.from_numpy(tile_rows).to(device)] = sums / lengths.clamp(min=1)[:, None]
    return scores


def by_length(offsets: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(length, rows of the texts that have it), empty texts left out."""
    lengths = np.diff(offsets)
    order = np.argsort(lengths, kind="stable")
    distinct, starts = np.unique(lengths[order], return_index=True)
    for length, rows in zip(distinct, np.split(order, starts[1:]), strict=True):
        if length:
            yield int(length), rows


def pair_scores(
    queries: Ragged, documents: Ragged, query_of: np.ndarray, shown: np.ndarray
) -> np.ndarray:
    """Late interaction of pairs.

    Args:
        queries, documents: their token vectors.
        query_of, shown: P numbers of each pair's query and document.

    Returns:
        P float32.
    """
    import torch

    from neurosearch.nn.ragged import Ragged

    scores = np.empty(len(query_of), dtype=np.float32)
    order = np.argsort(query_of, kind="stable")
    bounds = np.searchsorted(query_of[order], np.arange(len(queries.offsets)))
    device = documents.vectors.device
    for query in np.unique(query_of):
        pairs = order[bounds[query] : bounds[query + 1]]
        rows = shown[pairs]
        begin, end = queries.offsets[query], queries.offsets[query + 1]
        query_tokens = queries.vectors[begin:end].to(device, documents.vectors.dtype)
        lengths = documents.offsets[rows + 1] - documents.offsets[rows]
        offsets = offsets_of(lengths)
        shift = np.repeat(documents.offsets[rows] - offsets[:-1], lengths)
        places = torch.from_numpy(shift + np.arange(offsets[-1])).to(device)
        few = Ragged(documents.vectors[places], offsets)
        groups = list(by_length(offsets))
        width = np.array([0, end - begin])
        scores[pairs] = scores_of_all(query_tokens, width, few, groups, 10**9)[0].cpu().numpy()
    return scores


def naive_maxsim(queries: Ragged, documents: Ragged) -> Tensor:
    """Q×N scores by one einsum over padded tensors: what the tiled one is measured against."""
    return queries.late_interaction(documents)
