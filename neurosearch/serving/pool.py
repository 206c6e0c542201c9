"""Threads that search, behind a bounded queue: what would come too late is refused at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from neurosearch.serving.metrics import Metrics
from neurosearch.serving.settings import Limits

T = TypeVar("T")
IN_TIME = 0.7  # of the deadline: searches that are expected to take longer are refused


class OverloadError(Exception):
    """The queue is full. `retry`: seconds after which it should have room."""

    def __init__(self, retry: float) -> None:
        super().__init__("too many requests wait")
        self.retry = retry


class DeadlineError(Exception):
    """The deadline passed before there was an answer."""


def one_thread() -> None:
    """FAISS uses one thread for each search: the searches themselves run side by side."""
    import faiss

    faiss.omp_set_num_threads(1)


class Pool:
    """`limits.workers` threads and their queue."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._threads = ThreadPoolExecutor(limits.workers, "search", initializer=one_thread)
        self._lock = threading.Lock()
        self._waiting = 0
        self._seconds = 0.01  # of a search, smoothed

    async def run(self, work: Callable[[], T], ended: Callable[[], None]) -> T:
        """Do `work` in one of the threads.

        Args:
            work: that answers.
            ended: is called when no thread will touch the work any more, whatever came of it.

        Returns:
            Its answer.

        Raises:
            OverloadError: the queue is full.
            DeadlineError: the deadline passed; work that has not begun is dropped.
        """
        seconds = self._limits.deadline_ms / 1000
        with self._lock:
            # What would be answered after its deadline is refused at once: searching for it would
            # take the time of requests that can still be answered.
            answered_in = (self._waiting / self._limits.workers + 1) * self._seconds
            late = self._waiting > 0 and answered_in > IN_TIME * seconds
            full = self._waiting >= self._limits.queue or late
            if not full:
                self._waiting += 1
        if full:
            ended()
            self._metrics.shed.labels("queue").inc()
            raise OverloadError(self._waiting * self._seconds / self._limits.workers)
        self._metrics.queue.set(self._waiting)
        deadline = time.monotonic() + seconds
        future = self._threads.submit(self._timed, work, deadline, ended)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except (TimeoutError, DeadlineError):
            self._metrics.shed.labels("deadline").inc()
            raise DeadlineError from None
        finally:
            if future.cancelled():  # it never reached a thread
                with self._lock:
                    self._waiting -= 1
                ended()

    def _timed(self, work: Callable[[], T], deadline: float, ended: Callable[[], None]) -> T:
        with self._lock:
            self._waiting -= 1
        self._metrics.queue.set(self._waiting)
        try:
            start = time.monotonic()
            if start > deadline:
                raise DeadlineError
            answer = work()
            self._seconds += 0.1 * (time.monotonic() - start - self._seconds)
            return answer
        finally:
            ended()

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)
