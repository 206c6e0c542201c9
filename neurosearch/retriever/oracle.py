"""The ceiling: judged products in the order of their gain. No system can score higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.types import Dataset
from neurosearch.evaluation.gain import Gain


@dataclass(frozen=True)
class Oracle(Retriever):
    """`gain`: what the evaluation pays for a label."""

    gain: Gain

    is_reference: ClassVar[bool] = True

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        # The artifact lies in evaluation/, which alone may open the test split's judgments.
        from neurosearch.evaluation.ideal import IdealRun

        return IdealRun.of(data, request, self.gain)
