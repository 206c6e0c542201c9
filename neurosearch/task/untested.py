"""How rows of tables without queries are recorded, such as those of tokenizers and detectors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from neurosearch.core.machine import peak_memory_mb
from neurosearch.core.store import write_whole
from neurosearch.task.base import Job, build, resolved


def recorded(
    job: Job,
    about: dict[str, Any],
    measured: Callable[[], tuple[dict[str, float], str]],
) -> None:
    """Measure a row, track it, and write its record.

    Args:
        job: the composed configuration and its folder.
        about: the row: `label`, `protocol`, and `split` and `is_reference` where they are not the
            usual ones.
        measured: gives the means by metric, and the fingerprint of what they are of.
    """
    start = time.perf_counter()
    none = dict.fromkeys(("split", "gain", "gain_fingerprint", "gain_choice", "baseline"), "")
    usual = {"is_reference": False, **none, "resamples": 0, "statistics_seed": 0}
    identity = {**job.identity(), **usual, **about}
    job.folder.mkdir(parents=True, exist_ok=True)
    write_whole(job.folder / "config.yaml", resolved(job.config).encode())
    with build(job.config, "tracking").job(job, identity) as tracker:
        means, run = measured()
        tracker.log(means)
        job.record(
            **identity,
            status="done",
            seconds=round(time.perf_counter() - start, 2),
            peak_memory_mb=round(peak_memory_mb(), 1),
            means=means,
            metrics=None,
            run=run,
            latency=None,
            artifacts=list(job.runtime.store.events),
            flags=job.runtime.store.flags(),
        )
