"""Where a tokenizer's verdict turns from healthy to collapsed."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe


@dataclass(frozen=True)
class Thresholds(Recipe):
    """Collapsed is a tokenizer that falls below on any level, or collides more.

    `usage`: share of a level's codes; `perplexity`: as a share of them; `separation`: share of the
    pairs of products with the same codes so far that a level's code tells apart; `collisions`: 1
    less distinct IDs per product, before an extra code.
    """

    usage: float = setting(0.5, least=0, most=1)
    perplexity: float = setting(0.2, least=0, most=1)
    separation: float = setting(0.01, least=0, most=1)
    collisions: float = setting(0.75, least=0, most=1)
