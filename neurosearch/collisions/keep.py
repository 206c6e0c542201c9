"""Buckets: products of one ID stay together, to be ranked inside by vectors."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.collisions.base import Collisions, Costs
from neurosearch.core.semantic_ids import SemanticIds


@dataclass(frozen=True)
class Keep(Collisions):
    def resolve(self, ids: SemanticIds, costs: Costs | None) -> SemanticIds:
        return ids
