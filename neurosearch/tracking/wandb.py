"""Weights & Biases: offline by default, one run a job, grouped by sweep, always finished.

Offline runs lie under the outputs folder; `wandb sync` uploads them. The same numbers are in
the job's record.json and curves.csv, so no table depends on W&B.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosearch.core.bounds import setting
from neurosearch.core.command import masked
from neurosearch.core.store import write_whole
from neurosearch.tracking.base import Tracker, Tracking
from neurosearch.tracking.csv import CsvTracker
from neurosearch.training.curves import curves_of

if TYPE_CHECKING:
    from neurosearch.task.base import Job

MODES = ("offline", "online", "disabled")
RUN_ID = "wandb.id"  # in a job's folder while its run has not ended well


@dataclass(frozen=True)
class WandbTracking(Tracking):
    """`folder`: where offline runs are kept."""

    folder: str
    project: str = "neurosearch"
    mode: str = setting("offline", choices=MODES)
    entity: str | None = None

    @contextmanager
    def job(self, job: Job, identity: Mapping[str, Any]) -> Iterator[Tracker]:
        import os

        from omegaconf import OmegaConf

        from neurosearch.task.base import SWEEP

        plain = OmegaConf.to_container(job.config, resolve=True)
        config: Any = json.loads(masked(json.dumps(plain, default=str)))
        sweep = os.environ.get(SWEEP) or f"{job.name}-single"
        name = " ".join([str(identity["label"]), *job.overrides])
        facts = {**config, "identity": dict(identity)}
        with self._run(sweep, name, job.name, facts, job.folder / RUN_ID) as run:
            yield WandbTracker(run, CsvTracker(job.folder / "curves.csv"))

    def table(self, name: str, csv: Path, sweep: str) -> None:
        import polars as pl
        import wandb

        # Every cell as text would sort wrongly: only the text columns are text.
        frame = pl.read_csv(csv, infer_schema_length=None)
        with self._run(sweep, f"table {name}", "table", {}) as run:
            rows = [list(row) for row in frame.iter_rows()]
            run.log({name: wandb.Table(columns=frame.columns, data=rows)})

    @contextmanager
    def _run(
        self,
        group: str,
        name: str,
        job_type: str,
        config: dict[str, Any],
        kept: Path | None = None,
    ) -> Iterator[Any]:
        """`kept`: file of the run's id until it ends well, so that a killed job resumes its run."""
        import wandb

        identity = None if kept is None else run_id(kept)
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,  # type: ignore[arg-type]
            group=group,
            name=name[:120],
            job_type=job_type,
            config=config,
            dir=str(folder),
            id=identity,
            resume=None if identity is None else "allow",
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off"),
        )
        failed = 1
        try:
            yield run
            failed = 0
            if kept is not None:
                kept.unlink(missing_ok=True)
        finally:
            run.finish(exit_code=failed)


def run_id(path: Path) -> str:
    """The id in a file, which is written with a new one where it is not there.

    Args:
        path: of the file.

    Returns:
        Eight letters and digits.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, secrets.token_hex(4).encode())
    return path.read_text(encoding="utf-8").strip()


@dataclass
class WandbTracker:
    """Numbers without a step go to the summary, points of curves to the history."""

    run: Any
    files: CsvTracker

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.files.log(metrics, step)
        if step is None:
            self.run.summary.update(dict(metrics))
        else:
            self.run.log(dict(metrics), step=step)

    def artifacts(self, events: Sequence[Mapping[str, Any]], root: Path) -> None:
        """References to them by fingerprint, and the curves of trainings among them as history."""
        import wandb

        self.files.artifacts(events, root)
        for event in events:
            kind, fingerprint = str(event["kind"]), str(event["fingerprint"])
            folder = root / kind / fingerprint
            facts = {key: event[key] for key in ("seconds", "bytes", "event")}
            reference = wandb.Artifact(f"{kind}-{fingerprint}", type=kind, metadata=facts)
            reference.add_reference(folder.as_uri(), checksum=False)
            self.run.log_artifact(reference)
            for name, points in curves_of(folder / "curves.csv").items():
                self.run.define_metric(f"{kind}/{name}", step_metric=f"{kind}/step")
                for step, value in points:
                    self.run.log({f"{kind}/{name}": value, f"{kind}/step": step})
