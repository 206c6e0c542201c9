"""Semantic IDs of a catalogue, and how healthy they are: a row of a table of tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.store import write_whole
from neurosearch.task.base import Job, Task, build
from neurosearch.task.untested import recorded
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
        from hydra.core.hydra_config import HydraConfig

        tokenizer, runtime = tokenizer_of(job), job.runtime
        label = HydraConfig.get().runtime.choices["tokenizer"]
        health = health_of(tokenizer, job.dataset)

        def measured() -> tuple[dict[str, float], str]:
            summary = runtime.get(health)["summary"]
            source = runtime.store.folder(health) / "health.json"
            write_whole(job.folder / "health.json", source.read_bytes())
            self._export(job, tokenizer)
            means = {name: value for name, value in summary.items() if value is not None}
            return means, tokenizer.semantic_ids(job.dataset).artifact_fingerprint

        reference = isinstance(tokenizer, FLOORS)
        about = {"label": label, "protocol": "tokenizer", "is_reference": reference}
        recorded(job, about, measured)
        report = runtime.get(health)
        why = f" ({'; '.join(report['reasons'])})" if report["reasons"] else ""
        log.info("%s: %s%s", label, report["verdict"], why)
        log.info("%s: ids.csv, index.json, health.json", job.folder)

    def _export(self, job: Job, tokenizer: SemanticTokenizer) -> None:
        """Write the IDs beside the record: ids.csv and index.json."""
        ids = job.runtime.get(tokenizer.semantic_ids(job.dataset))
        products = job.runtime.get(job.dataset).catalogue.ids
        write_whole(job.folder / "ids.csv", as_csv(ids, products))
        write_whole(job.folder / "index.json", as_index(ids, products))

    def targets(self, job: Job) -> list[Artifact[Any]]:
        return [health_of(tokenizer_of(job), job.dataset)]


def tokenizer_of(job: Job) -> SemanticTokenizer:
    """The job's tokenizer. Raises InputError where the config has none."""
    if job.config.get("tokenizer") is None:
        raise InputError("config key 'tokenizer' is null: say tokenizer=rqkmeans, for example")
    tokenizer: SemanticTokenizer = build(job.config, "tokenizer")
    return tokenizer
