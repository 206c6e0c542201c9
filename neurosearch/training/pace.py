"""How fast a training steps: without its first steps, validations and resume points."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WARM = 5  # steps that are not counted: memory is allocated, kernels are chosen


class Pace:
    """Counts finished steps and the seconds that they took on a device."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._finished = self._counted = 0
        self._seconds = 0.0
        self._since: float | None = None

    def step(self) -> None:
        """A step has finished."""
        self._finished += 1
        if self._since is not None:
            self._counted += 1
        elif self._finished >= WARM:
            self._since = self._now()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile is not part of a step."""
        if self._since is not None:
            self._seconds += self._now() - self._since
        yield
        if self._since is not None:
            self._since = self._now()

    @property
    def rate(self) -> float | None:
        """Steps a second; None where too few were taken."""
        if not self._counted or not self._seconds:
            return None
        return self._counted / self._seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)  # calls return before the work is done
        return time.perf_counter()
