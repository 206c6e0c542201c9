"""What a trained generator writes for a split's queries: what its own metrics are made of.

No judgment is read here, only which products were judged (the pool): the labels of the test split
are open to `evaluation` alone, which joins them later (`evaluation.generation`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, judged_rows
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds, WrittenIds
from neurosearch.core.types import Dataset
from neurosearch.generator.base import CodeModelFiles
from neurosearch.generator.live import LiveGenerator

BEAM = 10


@dataclass(frozen=True)
class Written(Artifact[WrittenIds]):
    """written.npz: the arrays of a `WrittenIds`. `data` has the judged pool (`of`)."""

    kind: ClassVar[str] = "written"
    data: Artifact[Dataset]
    request: RetrievalRequest
    ids: Artifact[SemanticIds]
    trained: Artifact[CodeModelFiles]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.generator.network import path_scores

        data, ids = runtime.get(self.data), runtime.get(self.ids)
        queries = self.request.processed(data, runtime)
        model = LiveGenerator(runtime.get(self.trained), ids, runtime)
        texts = model.query_texts(queries, data.catalogue)
        free = model.search(texts, BEAM, constrained=False)
        constrained = model.search(texts, BEAM)
        pool = judged_rows(queries, data)
        query, row = pool["query"].to_numpy(), pool["row"].to_numpy()
        codes = np.asarray(ids.codes)[row]
        scores = path_scores(model.network, model.tokens(texts), query, codes, model.device)
        np.savez(
            folder / "written.npz",
            validity=(free.nodes >= 0).mean(axis=1),
            codes=constrained.codes,
            query=query,
            row=row,
            losses=-scores,
            pool_codes=codes,
        )
        return {"queries": len(queries), "pairs": len(row)}

    def load(self, folder: Path) -> WrittenIds:
        stored = np.load(folder / "written.npz")
        return WrittenIds(**{field.name: stored[field.name] for field in fields(WrittenIds)})
