"""The run of a split's judged products in the order of their gain (the row `oracle`)."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.artifact import Artifact
from neurosearch.data import view
from neurosearch.evaluation.gain import Gain
from neurosearch.retriever.base import RunArtifact, Topics
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Run, judgments_of, queries_of


@dataclass(frozen=True)
class IdealRun(RunArtifact):
    data: Artifact[Dataset]
    topics: Topics
    gain: Gain

    @classmethod
    def of(cls, data: Artifact[Dataset], topics: Topics, gain: Gain) -> IdealRun:
        """The ideal answer to `topics`."""
        parts = queries_of(topics.split), judgments_of(topics.split)
        return cls(view.only(data, *parts), topics, gain)

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        queries = self.topics.queries(data)
        judged = self.gain.graded(data.judgments(queries.split))
        frame = judged.select("query_id", "product_id", score="gain")
        return Run.from_frame(frame, queries, self.topics.depth)
