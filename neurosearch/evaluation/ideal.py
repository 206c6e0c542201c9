"""The run of a split's judged products in the order of their gain (the row `oracle`)."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, judgments_of, queries_of
from neurosearch.evaluation.gain import Gain


@dataclass(frozen=True)
class IdealRun(RunArtifact):
    data: Artifact[Dataset]
    request: RetrievalRequest
    gain: Gain

    @classmethod
    def of(cls, data: Artifact[Dataset], request: RetrievalRequest, gain: Gain) -> IdealRun:
        """The ideal answer to `request`."""
        parts = queries_of(request.split), judgments_of(request.split)
        return cls(view.only(data, *parts), request, gain)

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        queries = self.request.queries(data)
        judged = self.gain.graded(data.judgments(queries.split))
        frame = judged.select("query_id", "product_id", score="gain")
        return Run.from_frame(frame, queries, self.request.depth)
