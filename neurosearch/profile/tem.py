"""Transformer of query and history (TEM, Bi et al. 2020): one layer, eight heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.core.bounds import setting
from neurosearch.profile.neural.recipe import Neural


@dataclass(frozen=True)
class TEM(Neural):
    network: ClassVar[str] = "tem"
    dimensions: int = setting(128, least=2)
    layers: int = setting(1, least=1)
    heads: int = setting(8, least=1)
