"""One more code tells products of one ID apart (TIGER, Rajput et al. 2023): no collision is left.

The code is the place in the bucket, in the catalogue's order; it means nothing by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.collisions.base import Collisions, Costs
from neurosearch.core.semantic_ids import SemanticIds


@dataclass(frozen=True)
class Extra(Collisions):
    def resolve(self, ids: SemanticIds, costs: Costs | None) -> SemanticIds:
        place = _places(ids.keys(ids.semantic))
        codes = np.column_stack([ids.codes[:, : ids.semantic], place])
        sizes = (*ids.sizes[: ids.semantic], int(place.max()) + 1)
        return SemanticIds(codes, sizes, ids.semantic)

    def admit(self, ids: SemanticIds, codes: np.ndarray, costs: np.ndarray | None) -> np.ndarray:
        whole = np.concatenate([ids.codes[:, : ids.semantic], codes])
        place = _places(SemanticIds(whole, ids.sizes, ids.semantic).keys(ids.semantic))
        return np.column_stack([codes, place[len(ids) :]]).astype(np.int32)


def _places(keys: np.ndarray) -> np.ndarray:
    """How many rows before it have each row's key."""
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys[order], keys[order])
    place = np.empty(len(keys), dtype=np.int32)
    place[order] = np.arange(len(keys)) - starts
    return place
