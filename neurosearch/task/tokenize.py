"""Semantic IDs of a catalogue, and how healthy they are: a row of a table of tokenizers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log, peak_memory_mb
from neurosearch.core.store import write_whole
from neurosearch.task.base import Job, Task, build, resolved
from neurosearch.tokenizer.atomic import Atomic
from neurosearch.tokenizer.base import SemanticTokenizer
from neurosearch.tokenizer.export import as_csv, as_index
from neurosearch.tokenizer.health import health_of
from neurosearch.tokenizer.random import RandomIds

FLOORS = (RandomIds, Atomic)  # shown, not ranked


@dataclass(frozen=True)
class Tokenize(Task):
    """Builds the composed `tokenizer`'s IDs and health report, and exports the IDs."""

    tabulated: ClassVar[bool] = True

    def run(self, job: Job) -> None:
        start = time.perf_counter()
        tokenizer = tokenizer_of(job)
        identity = self._identity(job, tokenizer)
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / "config.yaml", resolved(job.config).encode())
        runtime = job.runtime
        with build(job.config, "tracking").job(job, identity) as tracker:
            health = health_of(tokenizer, job.dataset)
            report = runtime.get(health)
            write_whole(
                job.folder / "health.json",
                (runtime.store.folder(health) / "health.json").read_bytes(),
            )
            self._export(job, tokenizer)
            means = {name: value for name, value in report["summary"].items() if value is not None}
            tracker.log(means)
            job.record(
                **identity,
                status="done",
                seconds=round(time.perf_counter() - start, 2),
                peak_memory_mb=round(peak_memory_mb(), 1),
                means=means,
                metrics=None,
                run=tokenizer.semantic_ids(job.dataset).artifact_fingerprint,
                latency=None,
                artifacts=list(runtime.store.events),
                flags=runtime.store.flags(),
            )
        why = f" ({'; '.join(report['reasons'])})" if report["reasons"] else ""
        log.info("%s: %s%s", identity["label"], report["verdict"], why)
        log.info("%s: ids.csv, index.json, health.json", job.folder)

    def _export(self, job: Job, tokenizer: SemanticTokenizer) -> None:
        """Write the IDs beside the record: ids.csv and index.json."""
        ids = job.runtime.get(tokenizer.semantic_ids(job.dataset))
        products = job.runtime.get(job.dataset).catalogue.ids
        write_whole(job.folder / "ids.csv", as_csv(ids, products))
        write_whole(job.folder / "index.json", as_index(ids, products))

    def targets(self, job: Job) -> list[Artifact[Any]]:
        return [health_of(tokenizer_of(job), job.dataset)]

    def _identity(self, job: Job, tokenizer: SemanticTokenizer) -> dict[str, Any]:
        from hydra.core.hydra_config import HydraConfig

        return {
            **job.identity(),
            "label": HydraConfig.get().runtime.choices["tokenizer"],
            "is_reference": isinstance(tokenizer, FLOORS),
            "protocol": "tokenizer",
            "split": "",
            "gain": "",
            "gain_fingerprint": "",
            "gain_choice": "",
            "baseline": "",
            "resamples": 0,
            "statistics_seed": 0,
        }


def tokenizer_of(job: Job) -> SemanticTokenizer:
    """The job's tokenizer. Raises InputError where the config has none."""
    if job.config.get("tokenizer") is None:
        raise InputError("config key 'tokenizer' is null: say tokenizer=rqkmeans, for example")
    tokenizer: SemanticTokenizer = build(job.config, "tokenizer")
    return tokenizer
