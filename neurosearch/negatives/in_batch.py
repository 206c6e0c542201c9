"""In-batch negatives only: every other query's documents, at no cost."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.negatives.base import Negatives


@dataclass(frozen=True)
class InBatch(Negatives):
    def sources(self) -> list[Negatives]:
        return []

    def label(self) -> str:
        return "in-batch"
