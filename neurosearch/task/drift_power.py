"""`task=drift_power`: a detector's power against planted drift: a row of a table of detectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.types import SPLITS
from neurosearch.detector.base import Detector
from neurosearch.detector.ks import Ks
from neurosearch.detector.power import Power, Simulation
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.query.none import NoProcessing
from neurosearch.query.typos import Typos
from neurosearch.task.base import Job, Task
from neurosearch.task.untested import recorded


@dataclass(frozen=True)
class DriftPower(Task):
    """Attributes:
    detector: whose power.
    encoder: of the queries.
    split: whose queries simulated users ask.
    simulation: sizes, runs, level and seed.
    """

    detector: Detector = field(default_factory=Ks)
    encoder: Encoder = field(default_factory=Sentence)
    split: str = setting("train", choices=SPLITS)
    simulation: Simulation = field(default_factory=Simulation)

    tabulated: ClassVar[bool] = True

    def run(self, job: Job) -> None:
        (target,) = self.targets(job)
        about = {"label": self.detector.label(), "protocol": "detector", "split": self.split}
        recorded(job, about, lambda: (job.runtime.get(target), target.artifact_fingerprint))

    def targets(self, job: Job) -> list[Artifact[Any]]:
        vectors = [
            self.encoder.query_embeddings(job.dataset, self.split, query)
            for query in (NoProcessing(), Typos(seed=self.simulation.seed))
        ]
        data = view.with_queries(job.dataset, self.split)
        return [Power(data, vectors[0], vectors[1], self.split, self.detector, self.simulation)]
