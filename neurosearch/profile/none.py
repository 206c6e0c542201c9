"""Nobody is known: the row that profiles are read against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.profile.base import Profile


@dataclass(frozen=True)
class Nobody(Profile):
    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> Indifference:
        return Indifference(len(runtime.get(data).catalogue))

    def label(self) -> str:
        return "no profile"


@dataclass(frozen=True)
class Indifference:
    """`products`: N, all with the same score."""

    products: int

    def scores(self, texts: Sequence[str], histories: np.ndarray) -> np.ndarray:
        return np.zeros((len(texts), self.products), dtype=np.float32)
