"""The grades of every query-product pair of the simulated shop: what simulated users know.

Pooled judgments leave holes, as real ones do; users do not have them. The artifact is sealed like
the judgments of the test split: the store refuses it to whatever trains, tunes, mines or stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.shop import Shop
from neurosearch.data.simulation import queries

LARGEST = 4_000_000_000  # pairs that are kept


@dataclass(frozen=True)
class Grades:
    """Attributes:
    query_ids: Q query ids.
    grades: Q×N uint8 by row of the catalogue: 0 (I), 1 (C), 2 (S), 3 (E).
    """

    query_ids: list[str]
    grades: np.ndarray


@dataclass(frozen=True)
class Truth(Artifact[Grades]):
    """truth.npy and queries.parquet. `split`: whose queries."""

    kind: ClassVar[str] = "truth"
    shop: Shop
    split: str = "test"

    @property
    def sealed(self) -> bool:
        return True

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        world, codes, frame, intents = self.shop.drawn()
        chosen = np.flatnonzero((frame["split"] == self.split).to_numpy())
        if not len(chosen):
            raise InputError(f"data=shop has no {self.split} queries")
        if len(chosen) * len(codes) > LARGEST:
            pairs = f"{len(chosen):,} queries and {len(codes):,} products"
            raise InputError(f"data.n_products: the truth of {pairs} is too large to keep")
        rows = np.arange(len(codes))
        path = folder / "truth.npy"
        shape = (len(chosen), len(codes))
        grades = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with runtime.progressing("grades of all pairs", len(chosen)) as done:
            for place, number in enumerate(chosen):
                grades[place] = queries.label(world, codes, rows, intents[number])
                done(1)
        grades.flush()
        frame[chosen].select("query_id").write_parquet(folder / "queries.parquet")
        return {"queries": len(chosen), "products": len(codes)}

    def load(self, folder: Path) -> Grades:
        names = pl.read_parquet(folder / "queries.parquet", glob=False)["query_id"].to_list()
        return Grades(names, np.load(folder / "truth.npy", mmap_mode="r"))
