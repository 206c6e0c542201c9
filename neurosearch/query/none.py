"""No query processing: the text as it was typed."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.query import QueryProcessor


@dataclass(frozen=True)
class NoProcessing(QueryProcessor):
    def process(self, texts: list[str]) -> list[str]:
        return texts
