"""Zero attention (Ai et al. 2019): a query attends to what was bought, or to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.profile.neural.recipe import Neural


@dataclass(frozen=True)
class ZAM(Neural):
    network: ClassVar[str] = "zam"
