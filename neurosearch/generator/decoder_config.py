"""The shape of a decoder over codes."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe


@dataclass(frozen=True)
class Shape(Recipe):
    """Attributes:
    width: of the states.
    heads, head_width: of the attention.
    feed: width of the feed-forward.
    gated: T5 1.1's gated GELU instead of a ReLU.
    """

    width: int = 384
    heads: int = 6
    head_width: int = 64
    feed: int = 1024
    layers: int = 3
    dropout: float = 0.1
    gated: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "heads", "head_width", "feed", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"generator.shape.{name} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"generator.shape.dropout must be in [0, 1), not {self.dropout}")
