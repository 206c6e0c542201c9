"""`task=dashboard`: one page of everything in the outputs folder, without an account or a network.

Jobs with their status, what is being built now, failures with their reasons, training curves,
tables, and where time went. With `task.every=10` it is written again every ten seconds until
Ctrl-C, and an open page follows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.store import write_whole
from neurosearch.report import activity, charts
from neurosearch.report.pages import rendered, script_data
from neurosearch.task.base import Job, Task

HERE = Path(charts.__file__).parent


@dataclass(frozen=True)
class Dashboard(Task):
    """Attributes:
    every: seconds after which it is written again; None to write it once.
    most: jobs that are shown, the latest ones.
    """

    every: float | None = setting(None, least=1)
    most: int = setting(500, least=1)

    def run(self, job: Job) -> None:
        outputs = job.runtime.outputs
        page = outputs / "dashboard" / "index.html"
        content = written(outputs, self.most, self.every)
        page.parent.mkdir(parents=True, exist_ok=True)
        print(page)
        while True:
            write_whole(page, content.encode())
            if self.every is None:
                return
            time.sleep(self.every)
            content = written(outputs, self.most, self.every)


def written(outputs: Path, most: int, every: float | None) -> str:
    """The page.

    Args:
        outputs: the folder of all results.
        most: jobs that are shown.
        every: seconds after which the page reads itself again; None for never.

    Returns:
        HTML.

    Raises:
        InputError: there are no jobs.
    """
    from markupsafe import Markup

    found = activity.jobs(outputs)
    if not found:
        raise InputError(f"paths.outputs={outputs}: there are no jobs yet")
    building, spent = activity.building(outputs), activity.spent(found)
    trained = activity.trainings(outputs, found)
    drawn: dict[str, Any] = {"curves": [charts.training_curves(trained)]} if trained else {}
    count = {status: sum(j["status"] == status for j in found) for status in STATUSES}
    hours, on_gpu = sum(row[2] for row in spent), sum(row[3] for row in spent)
    figures = [(name, f"{n:,}") for name, n in count.items() if n]
    figures += [("hours of building", f"{hours:.1f}"), ("of them on GPU machines", f"{on_gpu:.1f}")]
    return rendered(
        HERE / "dashboard.html.j2",
        title=f"NeuroSearch: {outputs.name}",
        now=datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
        every=every,
        headline=activity.HEADLINE,
        figures=figures,
        jobs=found[:most],
        total=len(found),
        troubled=[j for j in found if j["status"] in TROUBLED][:100],
        building=building,
        spent=spent,
        tables=activity.tables(outputs),
        charts=drawn,
        style=Markup((HERE / "table.css").read_text("utf-8")),
        script=Markup((HERE / "table.js").read_text("utf-8")),
        library=Markup(charts.library() if drawn else ""),
        facts=script_data({"charts": drawn}),
    )


STATUSES = ("running", "done", "failed", "pruned", "stopped")
TROUBLED = ("failed", "stopped", "running")
