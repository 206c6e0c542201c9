"""Titles of products for queries: the small decoder of `queries`, the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.writer.queries.recipe import Queries


@dataclass(frozen=True)
class Titles(Queries):
    """See `Queries`."""

    writes: ClassVar[str] = "titles"
