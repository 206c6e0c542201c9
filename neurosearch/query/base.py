"""The query role: a deterministic, idempotent rewrite of query texts."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.recipe import Recipe


@dataclass(frozen=True)
class QueryProcessor(Recipe):
    """Base of query processors. A rewrite must be idempotent and never empty a query."""

    def process(self, texts: list[str]) -> list[str]:
        """The rewritten texts, in order."""
        raise TypeError(f"{type(self).__name__} does not say how it rewrites")
