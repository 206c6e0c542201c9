"""A mixture of sources: each gives its own number of negatives a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neurosearch.core.artifact import Artifact
from neurosearch.negatives.base import NegativeLists, Negatives, TrainingContext


@dataclass(frozen=True)
class Mixed(Negatives):
    """`parts` by name."""

    parts: Mapping[str, Negatives] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.parts:
            raise self.error("parts", "is empty: use negatives=in_batch")

    def lists(self, context: TrainingContext) -> list[tuple[int, Artifact[NegativeLists]]]:
        return [entry for part in self.parts.values() for entry in part.lists(context)]

    def sources(self) -> list[Negatives]:
        return [source for part in self.parts.values() for source in part.sources()]

    def label(self) -> str:
        return "mixed"
