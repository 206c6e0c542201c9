"""The ceiling: judged products in the order of their gain. No system can score higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.artifact import Artifact
from neurosearch.evaluation.gain import Gain
from neurosearch.retriever.base import Retriever, Topics
from neurosearch.types import Dataset, Run


@dataclass(frozen=True)
class Oracle(Retriever):
    """`gain`: what the evaluation pays for a label."""

    gain: Gain

    is_bound: ClassVar[bool] = True

    def run(self, data: Artifact[Dataset], topics: Topics) -> Artifact[Run]:
        # The artifact lies in evaluation/, which alone may open the test split's judgments.
        from neurosearch.evaluation.ideal import IdealRun

        return IdealRun.of(data, topics, self.gain)
