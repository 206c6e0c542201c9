"""Filters on products' fields: values of which one must be there, or a range of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, both included; None for no limit."""

    least: float | None = None
    most: float | None = None


Filters = Mapping[str, Sequence[str] | Range]
ABOVE = " > "  # between the levels of a category


def levels(category: str) -> list[str]:
    """A category and all that it lies below: a filter on one of them finds the product.

    Args:
        category: a path, such as `Home > Kitchen > Pans`.

    Returns:
        The paths from the top down, such as `Home`, `Home > Kitchen`, `Home > Kitchen > Pans`.
    """
    parts = category.split(ABOVE)
    return [ABOVE.join(parts[: depth + 1]) for depth in range(len(parts))]
