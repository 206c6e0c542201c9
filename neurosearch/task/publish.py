"""`task=publish retriever=engine/hybrid task.alias=shop`: a generation under a fixed name.

Loads the composed generation into its engine unless it is there, and lets the alias point to it,
from one moment to the next: programs that ask the engine by the alias never see a part of a load.
The generation before stays until `task=prune`, so that the alias can be switched back.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.engine.files import check_name
from neurosearch.retriever.engine import engines_in
from neurosearch.task.base import Job, Task


@dataclass(frozen=True)
class Publish(Task):
    """`alias`: that other programs use: a-z, 0-9 and _."""

    alias: str | None = None

    def run(self, job: Job) -> None:
        found = list(engines_in(job.retriever))
        if self.alias is None or len(found) != 1:
            how = "retriever=engine/hybrid task.alias=shop"
            raise InputError(f"task=publish needs an engine and an alias: {how}")
        check_name(self.alias)
        loaded = job.runtime.get(found[0].generation(job.dataset))
        with found[0].engine.session(job.runtime) as session:
            before = session.aliases().get(self.alias)
            session.switch(self.alias, loaded.name)
        was = "" if before in (None, loaded.name) else f", before {before}"
        log.info("alias %s: %s%s", self.alias, loaded.name, was)
