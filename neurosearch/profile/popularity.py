"""What everybody buys: a control. A gain that popularity has as well is no taste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.profile.base import Profile, purchases


@dataclass(frozen=True)
class Popularity(Profile):
    def learnt(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        return [Counts(view.learning(data, "train"))]

    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> BestSellers:
        return BestSellers(runtime.get(self.learnt(data)[0]))


@dataclass(frozen=True)
class BestSellers:
    """`counts`: N float32."""

    counts: np.ndarray

    def scores(self, texts: Sequence[str], histories: np.ndarray) -> np.ndarray:
        return np.repeat(np.log1p(self.counts)[None], len(texts), axis=0)


@dataclass(frozen=True)
class Counts(Artifact[np.ndarray]):
    """counts.npy: purchases of each product by train queries."""

    kind: ClassVar[str] = "profile"
    data: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.data)
        bought = purchases(data, "train", 1).bought
        counts = np.bincount(bought, minlength=len(data.catalogue)).astype(np.float32)
        np.save(folder / "counts.npy", counts)
        return {"purchases": len(bought)}

    def load(self, folder: Path) -> np.ndarray:
        counts: np.ndarray = np.load(folder / "counts.npy")
        return counts
