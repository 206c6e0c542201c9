"""Latency, measured in its own step on the live system, one measurement at a time.

Single queries one after another (k = 10) after warm-up give p50, p95 and p99; one call with
all of them gives batch queries per second. Bytes are those of the artifacts that answering
needs, build seconds are theirs and of all that they stand on, the data set excepted.

A measurement is flagged where other processes kept cores busy, or where a fixed piece of work took
another time before than after it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import NO_IDENTITY, Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset

BUSY = 0.5  # cores that others keep busy
DRIFT = 1.3  # ratio of a fixed piece of work's times before and after
SINGLE = ("p50 ms", "p95 ms", "p99 ms")
METRICS = (*SINGLE, "batch q/s", "index MB", "bytes/product", "build s")


@dataclass(frozen=True)
class LatencyProtocol(Recipe):
    """How latency is measured: `queries` timed after `warmup`, `k` products each; 0 to skip it."""

    queries: int = setting(200, least=0)
    warmup: int = setting(20, least=0)
    k: int = setting(10, least=1)


def _busy_cores(seconds: float = 0.2) -> float:
    """How many cores other processes keep busy now; 0 where the system does not say."""
    try:
        first = _jiffies()
        time.sleep(seconds)
        second = _jiffies()
    except (OSError, ValueError):
        return 0.0
    return (second - first) / os.sysconf("SC_CLK_TCK") / seconds


def _jiffies() -> float:
    """Busy time of all cores since the machine started, in clock ticks (Linux)."""
    with open("/proc/stat", encoding="ascii") as handle:  # noqa: PTH123
        values = [int(value) for value in handle.readline().split()[1:9]]
    return float(sum(values) - values[3] - values[4])


def _calibrated() -> float:
    """Seconds of a fixed piece of work: the median of seven."""
    values = np.random.default_rng(0).random((192, 192))
    times = []
    for _ in range(7):
        start = time.perf_counter()
        values @ values
        np.sort(values.ravel())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def costs(serving: list[Artifact[Any]], products: int, runtime: Runtime) -> dict[str, float]:
    """Size of what answering needs, and the seconds that building it took."""
    for artifact in serving:
        runtime.store.ensure(artifact)
    size, seconds = runtime.store.cost(serving)
    return {"index MB": size / 1e6, "bytes/product": size / products, "build s": seconds}


@dataclass(frozen=True)
class Latency(Artifact[dict[str, float]]):
    """latency.json. `hardware` is part of its identity: another machine measures anew."""

    kind: ClassVar[str] = "latency"
    data: Artifact[Dataset] = field(metadata=NO_IDENTITY)  # that `retriever` is bound to
    source: Artifact[Dataset]  # products and queries, which are all that counts here
    retriever: Retriever
    request: RetrievalRequest
    protocol: LatencyProtocol
    hardware: str
    serving: tuple[Artifact[Any], ...]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from filelock import FileLock

        data = runtime.get(self.source)
        texts = data.queries(self.request.split).texts
        wanted = self.protocol.queries + self.protocol.warmup
        workload = [texts[n % len(texts)] for n in range(wanted)]
        # Two measurements at once would measure each other, and be flagged for it.
        with FileLock(str(runtime.outputs / "artifacts" / ".latency.lock")):
            load, before = _busy_cores(), _calibrated()
            singles, batch = self._timed(workload, runtime)
            after = _calibrated()
        drift = max(before, after) / min(before, after)
        points = np.percentile(singles * 1000, [50, 95, 99])
        measured = dict(zip(SINGLE, map(float, points), strict=True))
        measured |= {"batch q/s": len(singles) / batch}
        measured |= costs(list(self.serving), len(data.catalogue), runtime)
        (folder / "latency.json").write_text(json.dumps(measured), encoding="utf-8")
        noise: dict[str, Any] = {"load": round(load, 2), "drift": round(drift, 3)}
        if load > BUSY or drift > DRIFT:
            noise["flag"] = "timed under load"
        return {**measured, **noise}

    def _timed(self, workload: list[str], runtime: Runtime) -> tuple[np.ndarray, float]:
        """Seconds of each query after the warm-up, and of all of them in one call."""
        timed, k = workload[self.protocol.warmup :], self.protocol.k
        with self.retriever.searcher(self.data, self.request, runtime) as live:
            for text in workload[: self.protocol.warmup]:
                live.search([text], k)
            singles = np.empty(len(timed))
            for number, text in enumerate(timed):
                start = time.perf_counter()
                live.search([text], k)
                singles[number] = time.perf_counter() - start
            live.search(timed, k)
            start = time.perf_counter()
            live.search(timed, k)
            return singles, time.perf_counter() - start

    def load(self, folder: Path) -> dict[str, float]:
        measured: dict[str, float] = json.loads((folder / "latency.json").read_text("utf-8"))
        return measured
