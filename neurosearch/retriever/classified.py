"""A classifier as a system: judged products in the order of the class that is expected of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from neurosearch.classifier.base import Classifier
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.evaluation.classes import Classes


@dataclass(frozen=True)
class Classified(Retriever):
    """`classifier`: of query and product. It ranks judged pools only, it finds nothing."""

    classifier: Classifier

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        if request.pool != "judged":
            how = "evaluation=labels or evaluation=judged"
            raise InputError(f"retriever=classified finds no products: it is for {how}")
        found = self.classifier.probabilities(data, request)
        return ExpectedClass(request.view(data), request, found, self.classifier.classes)

    def probabilities(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame]:
        return self.classifier.probabilities(data, request)

    def label(self) -> str:
        return f"Classified: {self.classifier.label()}"


@dataclass(frozen=True)
class ExpectedClass(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    found: Artifact[pl.DataFrame]
    classes: Classes

    def answer(self, runtime: Runtime) -> Run:
        frame = runtime.get(self.found)
        shares = frame.select(f"p {name}" for name in self.classes.names).to_numpy()
        scores = shares @ np.arange(shares.shape[1])
        ranked = frame.select("query_id", "product_id", score=pl.Series(scores))
        return Run.from_frame(ranked, self.request.queries(runtime.get(self.data)))
