"""The ceiling: judged products in the order of their gain. No system can score higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.artifact import Artifact
from neurosearch.evaluation.gain import Gain
from neurosearch.retriever.base import Retriever, RunArtifact, Topics
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Run


@dataclass(frozen=True)
class Oracle(Retriever):
    """`gain`: what the evaluation pays for a label."""

    gain: Gain

    is_bound: ClassVar[bool] = True

    def run(self, data: Artifact[Dataset], topics: Topics) -> Artifact[Run]:
        return OracleRun(data, topics, self.gain)


@dataclass(frozen=True)
class OracleRun(RunArtifact):
    data: Artifact[Dataset]
    topics: Topics
    gain: Gain

    def answer(self, runtime: Runtime) -> Run:
        data = runtime.get(self.data)
        queries = self.topics.queries(data)
        judged = self.gain.graded(data.judgments(queries.split))
        frame = judged.select("query_id", "product_id", score="gain")
        return Run.from_frame(frame, queries, self.topics.depth)
