"""`task=drift_power`: a detector's power against planted drift: a row of a table of detectors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.machine import peak_memory_mb
from neurosearch.core.store import write_whole
from neurosearch.core.types import SPLITS
from neurosearch.detector.base import Detector
from neurosearch.detector.ks import Ks
from neurosearch.detector.power import Power, Simulation
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.query.none import NoProcessing
from neurosearch.query.typos import Typos
from neurosearch.task.base import Job, Task, build, resolved


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
        start = time.perf_counter()
        identity = {
            **job.identity(),
            **{"label": self.detector.label(), "is_reference": False, "protocol": "detector"},
            **{"split": self.split, "gain": "", "gain_fingerprint": "", "gain_choice": ""},
            **{"baseline": "", "resamples": 0, "statistics_seed": 0},
        }
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / "config.yaml", resolved(job.config).encode())
        with build(job.config, "tracking").job(job, identity) as tracker:
            (target,) = self.targets(job)
            means = job.runtime.get(target)
            tracker.log(means)
            job.record(
                **identity,
                status="done",
                seconds=round(time.perf_counter() - start, 2),
                peak_memory_mb=round(peak_memory_mb(), 1),
                means=means,
                metrics=None,
                run=target.artifact_fingerprint,
                latency=None,
                artifacts=list(job.runtime.store.events),
                flags=job.runtime.store.flags(),
            )

    def targets(self, job: Job) -> list[Artifact[Any]]:
        vectors = [
            self.encoder.query_embeddings(job.dataset, self.split, query)
            for query in (NoProcessing(), Typos(seed=self.simulation.seed))
        ]
        data = view.with_queries(job.dataset, self.split)
        return [Power(data, vectors[0], vectors[1], self.split, self.detector, self.simulation)]
