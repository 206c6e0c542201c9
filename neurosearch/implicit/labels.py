"""People's judgments: the row that tables of clicks are read against."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.implicit.base import Implicit


@dataclass(frozen=True)
class Labels(Implicit):
    @property
    def pool(self) -> str:
        return "judged"  # as the rows of clicks, which know of no other products

    def label(self) -> str:
        return "people's labels"
