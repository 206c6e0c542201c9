"""`task=conform retriever=engine/words engine@retriever.engine=…`: does an engine keep the
protocol?

The same checks that the tests run, against the engine that was composed: your own cluster, with its
version, its security and its settings. What they make is dropped at the end. Ends with 2 where a
check fails.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from neurosearch.core.errors import AlarmError, InputError, first_line
from neurosearch.engine.base import Engine
from neurosearch.engine.conformance.suite import all_checks
from neurosearch.engine.conformance.world import Bench
from neurosearch.retriever.engine import engines_in
from neurosearch.task.base import Job, Task


def the_engine(job: Job) -> Engine:
    """The only engine of the composed retriever.

    Args:
        job: that was composed.

    Returns:
        The engine.

    Raises:
        InputError: there is none, or there are several.
    """
    found = list(dict.fromkeys(one.engine for one in engines_in(job.retriever)))
    if len(found) != 1:
        how = "retriever=engine/words, engine/vectors or engine/hybrid"
        raise InputError(f"{len(found)} engines are composed, and one is needed: {how}")
    return found[0]


@dataclass(frozen=True)
class Conform(Task):
    """`only`: checks whose names have this word; None for all."""

    only: str | None = None

    def run(self, job: Job) -> None:
        from rich.console import Console

        engine = the_engine(job)
        checks = {n: one for n, one in all_checks().items() if self.only is None or self.only in n}
        if not checks:
            raise InputError(f"task.only={self.only}: no check has this in its name")
        console = Console(width=110, highlight=False)
        failed = 0
        with Bench.opened(engine, job.runtime) as bench:
            for name, one in checks.items():
                start = time.perf_counter()
                fault = _fault(one, bench)
                failed += bool(fault)
                state = f"[red]failed[/red] {fault}" if fault else "[green]good[/green]"
                took = 1000 * (time.perf_counter() - start)
                console.print(f"{name:58} {took:6.0f} ms  {state}")
        total = len(checks)
        console.print(f"{engine.title}: {total - failed} of {total} checks passed")
        if failed:
            raise AlarmError(f"{failed} of {total} checks failed")


def _fault(one: Any, bench: Bench) -> str:
    """What a check found; '' for nothing."""
    try:
        one(bench)
    except Exception as error:  # whatever a client library raises is a finding
        return first_line(error)
    return ""
