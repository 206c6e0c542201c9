"""What engines' answers have in common: padding, fusion of two lists, and names of fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.filters import Filters, Range
from neurosearch.engine.base import Shape

List = tuple[np.ndarray, np.ndarray]  # numbers and scores of one query, best first


def padded(lists: Sequence[List], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of several queries as arrays.

    Args:
        lists: of Q queries, each at most k long.
        k: results of each query.

    Returns:
        Q×k numbers (-1 padded) and scores (-inf padded); equal scores by number.
    """
    numbers = np.full((len(lists), k), -1, dtype=np.int64)
    scores = np.full((len(lists), k), -np.inf, dtype=np.float32)
    for place, (found, given) in enumerate(lists):
        order = np.lexsort((found, -np.asarray(given)))[:k]
        numbers[place, : len(order)] = found[order]
        scores[place, : len(order)] = given[order]
    return numbers, scores


def fused(first: List, second: List, rank_constant: int, k: int) -> List:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009) of two lists.

    Args:
        first: numbers and scores, best first.
        second: as first.
        rank_constant: added to ranks, which begin at 1.
        k: results.

    Returns:
        Numbers and fused scores, best first; equal ones by number.
    """
    numbers = np.unique(np.concatenate([first[0], second[0]]))
    total = np.zeros(len(numbers))
    for found, _ in (first, second):
        total[np.searchsorted(numbers, found)] += 1 / (rank_constant + 1 + np.arange(len(found)))
    order = np.lexsort((numbers, -total))[:k]
    return numbers[order], total[order]


def keys_of(shape: Shape) -> dict[str, str]:
    """Names under which engines keep fields: attributes may be called anything.

    Args:
        shape: of the generation.

    Returns:
        `f0`, `f1`… by field.
    """
    return {name: f"f{place}" for place, name in enumerate(sorted(shape.fields))}


def check_filters(filters: Filters, shape: Shape) -> None:
    """Raise InputError for a filter that the generation can't answer.

    Args:
        filters: by field.
        shape: of the generation.
    """
    for name, wanted in filters.items():
        kind = shape.fields.get(name)
        if kind is None:
            known = ", ".join(sorted(shape.fields)) or "none"
            raise InputError(f"filter {name!r}: the engine holds no such field; it holds {known}")
        if isinstance(wanted, Range) != (kind == "number"):
            what = "numbers: give a range" if kind == "number" else "texts: give values"
            raise InputError(f"filter {name!r}: the field holds {what}")


def renamed(fields: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """A product's fields under the engine's names.

    Args:
        fields: of a product.
        keys: `keys_of`.

    Returns:
        The same values.
    """
    return {keys[name]: value for name, value in fields.items()}
