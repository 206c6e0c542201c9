"""Where the time of one query goes: named stages, timed only where somebody asked for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CLOCK: ContextVar[Clock | None] = ContextVar("stages", default=None)


class Clock:
    """Seconds by stage; a stage within another one is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a block to a stage.

        Args:
            name: such as `process`, `encode`, `words`, `index`, `generate`, `fuse`, `rerank`.

        Returns:
            A context.
        """
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            inner = self._inner.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - inner
            if self._inner:
                self._inner[-1] += spent


@contextmanager
def timed() -> Iterator[Clock]:
    """Time the stages of what this thread does within the block.

    Returns:
        A context that yields the clock.
    """
    clock = Clock()
    token = _CLOCK.set(clock)
    try:
        yield clock
    finally:
        _CLOCK.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A stage of a search. Costs nothing where nobody times.

    Args:
        name: such as `process`, `encode`, `words`, `index`, `generate`, `fuse`, `rerank`.

    Returns:
        A context.
    """
    clock = _CLOCK.get()
    if clock is None:
        yield
        return
    with clock.stage(name):
        yield
