"""Protocol `catalogue`: retrieve from every product; unjudged products gain nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.evaluation.base import Evaluation


@dataclass(frozen=True)
class CatalogueProtocol(Evaluation):
    pool: ClassVar[str] = "catalogue"
