"""How well a re-ranker's score says which candidates were judged at all.

Where judged products are those that some system once found, a learner that takes all others for
bad learns to tell who was in the pool. That raises metrics in which unjudged products are worth
nothing, and helps nobody. A value of .5 says that the score knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset

AUC = "AUC judged"


@dataclass(frozen=True)
class JudgedAUC(Artifact[pl.DataFrame]):
    """auc.parquet: of each query the share of (judged, unjudged) pairs of candidates that the score
    puts in that order, equal scores as half a pair; null where there is no such pair.

    `data` has the judged pool of the run's split, without labels.
    """

    kind: ClassVar[str] = "judgedness"
    data: Artifact[Dataset]
    scored: Artifact[Run]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        run = runtime.get(self.scored)
        pool = runtime.get(self.data).pool(run.split).select("query_id", "product_id")
        known = pool.unique().with_columns(judged=pl.lit(True))
        frame = run.frame.join(known, on=["query_id", "product_id"], how="left")
        frame = frame.with_columns(pl.col("judged").fill_null(False))
        place = pl.col("score").rank("average").over("query_id")
        sums = (
            frame.with_columns(place=place)
            .group_by("query_id")
            .agg(
                judged=pl.col("judged").sum().cast(pl.Float64),
                others=(~pl.col("judged")).sum().cast(pl.Float64),
                places=pl.col("place").filter(pl.col("judged")).sum(),
            )
        )
        # Mann and Whitney's U over the number of pairs.
        least = pl.col("judged") * (pl.col("judged") + 1) / 2
        pairs = pl.col("judged") * pl.col("others")
        auc = pl.when(pairs > 0).then((pl.col("places") - least) / pairs)
        found = sums.select("query_id", auc.alias(AUC)).sort("query_id")
        found.write_parquet(folder / "auc.parquet")
        mean = found[AUC].drop_nulls().to_numpy().mean() if found[AUC].count() else None
        return {AUC: None if mean is None else round(float(mean), 4)}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "auc.parquet", glob=False)
