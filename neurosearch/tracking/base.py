"""The tracking role. A tracker never blocks or fails a job: its files hold the numbers too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from neurosearch.core.recipe import Recipe

if TYPE_CHECKING:
    from neurosearch.task.base import Job


class Tracker(Protocol):
    """An open job."""

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Numbers of the job (`step` None), or a point of its curves.

        Args:
            metrics: numbers by name.
            step: of a curve; None for numbers of the whole job.
        """

    def artifacts(self, events: Sequence[Mapping[str, Any]], root: Path) -> None:
        """What the job stands on, as the store noted it; `root` is the artifacts' folder.

        Args:
            events: the store's notes.
            root: the artifacts' folder.
        """


@dataclass(frozen=True)
class Tracking(Recipe):
    """Base of trackings."""

    @contextmanager
    def job(self, job: Job, identity: Mapping[str, Any]) -> Iterator[Tracker]:
        """Track one job; closed whatever happens inside.

        Args:
            job: the composed configuration and its folder.
            identity: what names the job: data, system, seeds, commit.

        Returns:
            A context that yields the tracker.
        """
        raise TypeError(f"{type(self).__name__} does not say how it tracks")
        yield

    def table(self, name: str, csv: Path, sweep: str) -> None:
        """Publish a finished table (the long CSV) of a sweep.

        Args:
            name: of the table.
            csv: its file.
            sweep: its name.
        """
