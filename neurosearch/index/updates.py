"""Products that come and go, without building an index anew where it can forget and learn.

Flat and coded vectors move up when one is removed, so later rows change; inverted lists keep each
vector's own number. Graphs and re-scored candidates forget nothing: they are refused. Lists that
were learnt from other products fill unevenly: how much more than at first is told, since then a new
build finds more for the same work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.index.parameters import innermost

UNEVEN = 1.5  # growth of the lists' imbalance from which a new build is advised


@dataclass(frozen=True)
class Updated:
    """Attributes:
    ids: of the vectors by their number; None where a vector was removed.
    imbalance: L Σ n² / N² over the lists; 1 where they are even, and without lists.
    """

    ids: list[str | None]
    imbalance: float


def update(
    index: Any, ids: list[str | None], gone: set[str], vectors: np.ndarray, new: list[str]
) -> Updated:
    """Remove products from a FAISS index and add others, in place.

    Args:
        index: FAISS's, behind its transforms or not.
        ids: of its vectors by their number; None where one was removed before.
        gone: ids that are to be removed.
        vectors: M×D float32, of what is added.
        new: M ids of what is added.

    Returns:
        The ids of the vectors afterwards.

    Raises:
        InputError: the index can't forget products, and some are gone.
    """
    import faiss

    inner = innermost(index)
    lists = isinstance(inner, faiss.IndexIVF)
    if gone:
        if not (lists or isinstance(inner, faiss.IndexFlatCodes)):
            name = type(inner).__name__
            message = f"{len(gone):,} products are gone or changed, and {name} forgets none"
            raise InputError(f"{message}: build the index anew")
        places = [number for number, name in enumerate(ids) if name in gone]
        index.remove_ids(np.array(places, dtype=np.int64))
        if lists:
            ids = [None if name in gone else name for name in ids]
        else:
            ids = [name for name in ids if name not in gone]
    if new:
        added = np.ascontiguousarray(vectors, dtype=np.float32)
        if lists:  # its own count would give numbers that are taken
            numbers = np.arange(len(ids), len(ids) + len(new), dtype=np.int64)
            index.add_with_ids(added, numbers)
        else:
            index.add(added)
        ids = [*ids, *new]
    return Updated(ids, imbalance(index))


def imbalance(index: Any) -> float:
    """How unevenly lists are filled.

    Args:
        index: FAISS's.

    Returns:
        L Σ n² / N²; 1 where they are even, and without lists.
    """
    import faiss

    inner = innermost(index)
    if not isinstance(inner, faiss.IndexIVF) or not inner.ntotal:
        return 1.0
    held: Any = inner.invlists
    sizes = np.array([held.list_size(n) for n in range(inner.nlist)], dtype=np.float64)
    return float(len(sizes) * (sizes**2).sum() / sizes.sum() ** 2)
