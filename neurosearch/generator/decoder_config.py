"""The shape of a decoder over codes."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe


@dataclass(frozen=True)
class Shape(Recipe):
    """Attributes:
    width: of the states.
    heads, head_width: of the attention.
    feed: width of the feed-forward.
    gated: T5 1.1's gated GELU instead of a ReLU.
    """

    width: int = setting(384, least=1)
    heads: int = setting(6, least=1)
    head_width: int = setting(64, least=1)
    feed: int = setting(1024, least=1)
    layers: int = setting(3, least=1)
    dropout: float = setting(0.1, least=0, below=1)
    gated: bool = False
