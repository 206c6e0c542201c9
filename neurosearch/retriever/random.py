"""The floor: products in random order. With it a table shows what its metrics give for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import (
    RetrievalRequest,
    Retriever,
    RunArtifact,
    judged_ids,
    judged_rows,
)
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset


@dataclass(frozen=True)
class Random(Retriever):
    seed: int = 0

    is_reference: ClassVar[bool] = True

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        return RandomRun(request.view(data), request, self.seed)


@dataclass(frozen=True)
class RandomRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    seed: int

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        rng = np.random.default_rng(self.seed)
        if self.request.pool == "judged":
            pool = judged_rows(queries, data)
            drawn = pl.Series("score", rng.random(pool.height))
            frame = judged_ids(pool, queries, data).with_columns(drawn)
            return Run.from_frame(frame, queries)
        size = len(data.catalogue)
        depth = min(self.request.depth, size)
        rows = np.stack([rng.choice(size, depth, replace=False) for _ in range(len(queries))])
        scores = np.tile(np.arange(depth, 0, -1, dtype=np.float32), (len(queries), 1))
        return Run.from_arrays(rows, scores, queries, data.catalogue)
