"""Tracking in files: curves.csv in the job's folder (metrics are in its record.json anyway)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosearch.tracking.base import Tracker, Tracking

if TYPE_CHECKING:
    from neurosearch.task.base import Job


@dataclass(frozen=True)
class CsvTracking(Tracking):
    @contextmanager
    def job(self, job: Job, identity: Mapping[str, Any]) -> Iterator[Tracker]:
        yield CsvTracker(job.folder / "curves.csv")


@dataclass
class CsvTracker:
    """Appends `step,metric,value` rows; numbers without a step have an empty one."""

    path: Path
    _started: bool = field(default=False)

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        mode = "a" if self._started else "w"
        with self.path.open(mode, newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            if not self._started:
                writer.writerow(["step", "metric", "value"])
            for name, value in metrics.items():
                writer.writerow(["" if step is None else step, name, value])
        self._started = True

    def artifacts(self, events: Sequence[Mapping[str, Any]], root: Path) -> None:
        """Nothing: the job's record names them."""
