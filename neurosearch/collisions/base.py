"""The collisions role: products that share a semantic ID keep it, or are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.recipe import Recipe
from neurosearch.core.semantic_ids import SemanticIds

# rows -> len(rows)×K float32 costs of each last code, the codes before it kept.
Costs = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Collisions(Recipe):
    """Base of policies. `moves`: needs the costs of other last codes, so not every tokenizer."""

    moves: ClassVar[bool] = False

    @property
    def promises(self) -> bool:
        """Whether it means to leave no collision."""
        return False

    def resolve(self, ids: SemanticIds, costs: Costs | None) -> SemanticIds:
        """The IDs after the policy; `costs` is given to policies that move.

        Args:
            ids: as the tokenizer assigns them.
            costs: what other last codes would cost; None for policies that do not move products.

        Returns:
            The IDs after the policy.
        """
        raise TypeError(f"{type(self).__name__} does not say what it does")

    def admit(self, ids: SemanticIds, codes: np.ndarray, costs: np.ndarray | None) -> np.ndarray:
        """IDs of unseen products beside those of the catalogue, which stay as they are.

        Args:
            ids: of the catalogue.
            codes: N×semantic, as the tokenizer assigns them.
            costs: N×K of the last level, for policies that move products; else None.

        Returns:
            N×L int32 codes.
        """
        return codes


def crowded(ids: SemanticIds) -> np.ndarray:
    """Rows whose prefix (all codes but the last) has a collision somewhere below it.

    Args:
        ids: the semantic IDs of the catalogue's products.

    Returns:
        Row numbers, ascending (int64).
    """
    prefix, whole = ids.keys(ids.semantic - 1), ids.keys(ids.semantic)
    sizes = np.bincount(whole)[whole]
    return np.flatnonzero(np.isin(prefix, prefix[sizes > 1]))


def place(
    prefix: np.ndarray,
    costs: np.ndarray,
    capacity: int,
    held: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """The cheapest last code for each product of a prefix, at most `capacity` products to a code.

    In rounds: every row without a place asks for its cheapest code that has room; where more ask
    than fit, the cheapest win.

    Args:
        prefix: N numbers of the rows' prefixes.
        costs: N×K.
        capacity: products of a code below one prefix.
        held: (prefix, code) of places that are taken already.

    Returns:
        N int32 codes; -1 for rows of a prefix that has more of them than all its codes hold.
    """
    rows, codes = costs.shape
    placed = np.full(rows, -1, dtype=np.int32)
    numbers, prefix = np.unique(prefix, return_inverse=True)
    room = np.full((len(numbers), codes), capacity, dtype=np.int64)
    if held is not None:
        among = np.isin(held[0], numbers)
        np.subtract.at(room, (np.searchsorted(numbers, held[0][among]), held[1][among]), 1)
    waiting = np.arange(rows)
    while len(waiting):
        offered = np.where(room[prefix[waiting]] > 0, costs[waiting], np.inf)
        wanted = offered.argmin(axis=1)
        price = offered[np.arange(len(waiting)), wanted]
        fits = np.isfinite(price)
        waiting, wanted, price = waiting[fits], wanted[fits], price[fits]
        slot = prefix[waiting].astype(np.int64) * codes + wanted
        order = np.lexsort((waiting, price, slot))
        sorted_slots = slot[order]
        first = np.searchsorted(sorted_slots, sorted_slots)
        wins = order[np.arange(len(order)) - first < room.ravel()[sorted_slots]]
        placed[waiting[wins]] = wanted[wins]
        np.subtract.at(room, (prefix[waiting[wins]], wanted[wins]), 1)
        waiting = np.delete(waiting, wins)
    return placed


@dataclass(frozen=True)
class Moving(Collisions):
    """Base of policies that give products other last codes, in the order of their prices."""

    moves: ClassVar[bool] = True

    @property
    def room(self) -> int:
        """Products that an ID may have."""
        return 1

    @property
    def promises(self) -> bool:
        return self.room == 1

    def prices(self, prefix: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """N×K: what each row would pay for each last code below its prefix.

        Args:
            prefix: N numbers of the rows' prefixes.
            costs: N×K of each last code.

        Returns:
            N×K prices.
        """
        return costs

    def resolve(self, ids: SemanticIds, costs: Costs | None) -> SemanticIds:
        assert costs is not None
        rows = crowded(ids)
        if not len(rows):
            return ids
        prefix = ids.keys(ids.semantic - 1)[rows]
        last = place(prefix, self.prices(prefix, costs(rows)), self.room)
        codes = ids.codes.copy()
        keep = last >= 0
        codes[rows[keep], ids.semantic - 1] = last[keep]
        return SemanticIds(codes, ids.sizes, ids.semantic)

    def admit(self, ids: SemanticIds, codes: np.ndarray, costs: np.ndarray | None) -> np.ndarray:
        assert costs is not None
        whole = np.concatenate([ids.codes[:, : ids.semantic], codes])
        prefix = SemanticIds(whole, ids.sizes, ids.semantic).keys(ids.semantic - 1)
        known = prefix[: len(ids)], np.asarray(ids.codes[:, ids.semantic - 1])
        last = place(prefix[len(ids) :], costs, self.room, known)
        result = codes.copy()
        result[last >= 0, -1] = last[last >= 0]
        return result
