"""The networks' control: the query alone, trained on the same purchases, without any history.

What it gains was learnt of queries and products; what `tem` and `zam` gain above it, of persons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.profile.neural.recipe import Neural


@dataclass(frozen=True)
class QueryOnly(Neural):
    network: ClassVar[str] = "query_only"

    def label(self) -> str:
        return "query alone"
