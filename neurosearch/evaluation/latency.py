"""Latency, measured in its own step on the live system, one measurement at a time.

Single queries one after another (k = 10) after warm-up give p50, p95 and p99; one call with
all of them gives batch queries per second. Bytes are those of the artifacts that answering
needs, build seconds are theirs and of all that they stand on, the data set excepted.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.artifact import NO_IDENTITY, Artifact
from neurosearch.recipe import Recipe
from neurosearch.retriever.base import Retriever, Topics
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset

SINGLE = ("p50 ms", "p95 ms", "p99 ms")
METRICS = (*SINGLE, "batch q/s", "index MB", "bytes/product", "build s")


@dataclass(frozen=True)
class LatencyProtocol(Recipe):
    """How latency is measured: `queries` timed after `warmup`, `k` products each; 0 to skip it."""

    queries: int = 200
    warmup: int = 20
    k: int = 10


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
    asked: Artifact[Dataset]  # products and queries, which are all that counts here
    retriever: Retriever
    topics: Topics
    protocol: LatencyProtocol
    hardware: str
    serving: tuple[Artifact[Any], ...]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from filelock import FileLock

        data = runtime.get(self.asked)
        texts = data.queries(self.topics.split).texts
        wanted = self.protocol.queries + self.protocol.warmup
        asked = [texts[n % len(texts)] for n in range(wanted)]
        timed, k = asked[self.protocol.warmup :], self.protocol.k
        # Two measurements at once would measure each other.
        alone = FileLock(str(runtime.outputs / "artifacts" / ".latency.lock"))
        with alone, self.retriever.searcher(self.data, self.topics, runtime) as live:
            for text in asked[: self.protocol.warmup]:
                live.search([text], k)
            singles = np.empty(len(timed))
            for number, text in enumerate(timed):
                start = time.perf_counter()
                live.search([text], k)
                singles[number] = time.perf_counter() - start
            live.search(timed, k)
            start = time.perf_counter()
            live.search(timed, k)
            batch = time.perf_counter() - start
        points = np.percentile(singles * 1000, [50, 95, 99])
        measured = dict(zip(SINGLE, map(float, points), strict=True))
        measured |= {"batch q/s": len(timed) / batch}
        measured |= costs(list(self.serving), len(data.catalogue), runtime)
        (folder / "latency.json").write_text(json.dumps(measured), encoding="utf-8")
        return measured

    def load(self, folder: Path) -> dict[str, float]:
        measured: dict[str, float] = json.loads((folder / "latency.json").read_text("utf-8"))
        return measured
