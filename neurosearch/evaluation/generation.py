"""What retrieval metrics don't say of a generator, query by query.

* validity: share of the ten best unconstrained sequences that are IDs of the catalogue;
* prefix@l: whether the first l codes of the best constrained ID are those of a relevant product,
  and `any prefix@l` of one of the ten best;
* CE@l: cross-entropy (nats) of the l-th codes of the relevant products, their prefixes given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import WrittenIds
from neurosearch.core.types import Dataset, Queries, places_of
from neurosearch.evaluation.gain import Gain

METRICS = ("validity",)
BY_LEVEL = ("prefix", "any prefix", "CE")  # with @l after it


@dataclass(frozen=True)
class GenerationMetrics(Artifact[pl.DataFrame]):
    """generation.parquet: `query_id` and a Float64 column a metric, null where it is undefined."""

    kind: ClassVar[str] = "generation"
    data: Artifact[Dataset]
    split: str
    written: Artifact[WrittenIds]
    gain: Gain

    @classmethod
    def of(
        cls,
        data: Artifact[Dataset],
        split: str,
        written: Artifact[WrittenIds],
        gain: Gain,
    ) -> GenerationMetrics:
        """The metrics of what was written for a split's queries; they need its judgments."""
        return cls(view.learning(data, split), split, written, gain)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data, written = runtime.get(self.data), runtime.get(self.written)
        queries = data.queries(self.split)
        good = self._relevant(data, queries)
        query, row = good["query"].to_numpy(), good["row"].to_numpy()
        count = np.bincount(query, minlength=len(queries))
        columns: dict[str, Any] = {"validity": written.validity}
        columns |= self._by_level(written, query, row, count)
        frame = pl.DataFrame({"query_id": queries.ids, **columns}).fill_nan(None)
        frame.write_parquet(folder / "generation.parquet")
        means = frame.drop("query_id").mean().row(0, named=True)
        return {name: value if value is None else round(value, 4) for name, value in means.items()}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "generation.parquet", glob=False)

    def _relevant(self, data: Dataset, queries: Queries) -> pl.DataFrame:
        """The split's relevant pairs, with `query` and `row` numbers, sorted by both."""
        order = places_of(queries.ids, "query_id", "query")
        numbers = places_of(data.catalogue.ids, "product_id", "row")
        judged = self.gain.graded(data.judgments(self.split)).filter("relevant")
        numbered = judged.join(numbers, on="product_id").join(order, on="query_id")
        return numbered.with_columns(pl.col("query", "row").cast(pl.Int64)).sort("query", "row")

    def _by_level(
        self, written: WrittenIds, query: np.ndarray, row: np.ndarray, count: np.ndarray
    ) -> dict[str, np.ndarray]:
        """prefix@l, any prefix@l and CE@l of each query; `query` and `row`: relevant pairs."""
        # Every judged pair is in the pool, which is sorted as the relevant pairs are.
        width = int(max(written.row.max(initial=0), row.max(initial=0))) + 1
        place = np.searchsorted(written.query * width + written.row, query * width + row)
        codes, losses = written.pool_codes[place], written.losses[place]
        columns = {}
        for depth in range(1, codes.shape[1] + 1):
            same = (written.codes[query, :, :depth] == codes[:, None, :depth]).all(axis=2)
            for name, hit in (("prefix", same[:, 0]), ("any prefix", same.any(axis=1))):
                hits = np.zeros(len(count))
                np.maximum.at(hits, query, hit.astype(float))
                columns[f"{name}@{depth}"] = np.where(count > 0, hits, np.nan)
            columns[f"CE@{depth}"] = _means(losses[:, depth - 1], query, count)
        return columns


def _means(values: np.ndarray, query: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Q means of the values of each query, NaN where it has none."""
    sums = np.bincount(query, weights=values, minlength=len(count))
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)
