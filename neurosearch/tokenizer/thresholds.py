"""Where a tokenizer's verdict turns from healthy to collapsed."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe


@dataclass(frozen=True)
class Thresholds(Recipe):
    """Collapsed is a tokenizer that falls below on any level, or collides more.

    `usage`: share of a level's codes; `perplexity`: as a share of them; `separation`: share of the
    pairs of products with the same codes so far that a level's code tells apart; `collisions`: 1
    less distinct IDs per product, before an extra code.
    """

    usage: float = 0.5
    perplexity: float = 0.2
    separation: float = 0.01
    collisions: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("usage", "perplexity", "separation", "collisions"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"tokenizer.thresholds.{name} must be between 0 and 1")
