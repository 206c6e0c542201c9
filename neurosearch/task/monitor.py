"""`task=monitor`: is the traffic, the catalogue, the encoder or the index another than before?

Reads the query log of `task=serve` with the same overrides, and what that server says it serves.
Writes report.json and a page; the exit status is 2 when something alarms, for schedulers.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import AlarmError, InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.store import write_whole
from neurosearch.detector.base import LEAST, Detector
from neurosearch.detector.chi2 import Chi2
from neurosearch.detector.ks import Ks
from neurosearch.detector.mmd import Mmd
from neurosearch.encoder.base import Encoder, LiveEncoder
from neurosearch.monitoring import health
from neurosearch.monitoring.drift import Detectors, Drift, drifts
from neurosearch.monitoring.health import Check
from neurosearch.monitoring.page import page
from neurosearch.monitoring.traffic import asked_now, read_log
from neurosearch.retriever.dense import Dense
from neurosearch.serving.systems import Composed, opened
from neurosearch.task.base import Job, Task
from neurosearch.task.serve import composed_of


@dataclass(frozen=True)
class Limits(Recipe):
    """What is allowed.

    Attributes:
        level: of the p-values, corrected for the number of features: the share of quiet windows
            that alarm.
        stale: share of products that may differ from the catalogue.
        recall: least recall@10 of an approximate index.
        errors: share of answers that may be 5xx.
        slower: times the reference's 99th percentile that the window's may be.
    """

    level: float = setting(0.005, above=0, below=1)
    stale: float = setting(0.05, least=0, most=1)
    recall: float = setting(0.95, least=0, most=1)
    errors: float = setting(0.01, least=0, most=1)
    slower: float = setting(2.0, above=0)


@dataclass(frozen=True)
class Monitor(Task):
    """Attributes:
    log: folder of the query log; None for that of `task=serve` with the same overrides.
    system: whose queries; needed where several are served. What is composed (`retriever=…`) is
        that system, and `log` the folder that they share.
    window: the last queries of the log that are compared.
    reference: earlier queries of the log, the last ones before the window; where the log has fewer
        than LEAST of them, the data set's own queries are asked of the system instead.
    numbers, labels, vectors: detectors of each kind of feature.
    limits: what is allowed.
    url: of the running server, whose errors are counted; None for not at all.
    seed: of permutations and samples.
    """

    log: str | None = None
    system: str | None = None
    window: int = setting(1_000, least=LEAST)
    reference: int = setting(10_000, least=LEAST)
    numbers: Detector = field(default_factory=lambda: Ks(permutations=1_999))
    labels: Detector = field(default_factory=lambda: Chi2(permutations=1_999))
    vectors: Detector = field(default_factory=lambda: Mmd(permutations=1_999))
    limits: Limits = field(default_factory=Limits)
    url: str | None = None
    seed: int = 0

    def run(self, job: Job) -> None:
        serving = job.folder / "serving"
        traffic = read_log(Path(self.log) if self.log else serving / "log", self.system)
        served_systems = traffic["system"].unique(maintain_order=True).to_list()
        if len(served_systems) > 1:
            names = ", ".join(served_systems)
            raise InputError(f"the log has several systems: say task.system=… ({names})")
        if traffic.height < LEAST:
            raise InputError(f"the log has {traffic.height} queries; {LEAST} are needed")
        window = traffic.tail(self.window)
        earlier = traffic.head(traffic.height - window.height).tail(self.reference)
        composed = composed_of(job, job.runtime)
        record = serving / "served" / "now" / "record.json"
        served = _served(record, self.system)
        rng = np.random.default_rng(self.seed)
        found: list[Drift] = []
        with opened("now", composed, builds=True) as system:
            if earlier.height >= LEAST:
                reference, source = earlier, "earlier queries of the log"
            else:
                split = composed.request.split
                texts = system.dataset.queries(split).texts[: self.reference]
                reference, source = asked_now(system, texts), f"{split} queries of the data set"
            encoder = encoder_of(composed)
            live = None if encoder is None else encoder.loaded(job.runtime, composed.data)
            detectors = Detectors(self.numbers, self.labels, self.vectors)
            vectors = None if live is None else live.encode
            found = drifts(reference, window, detectors, self.limits.level, rng, vectors)
            checks = self._checks(composed, served, (encoder, live), window, rng)
        checks += health.latency(reference, window, self.limits.slower)
        if self.url is not None:
            checks += health.errors(_metrics(self.url), self.limits.errors)
        facts = {
            "system": composed.retriever.label(),
            "data": job.data.label(),
            "window": f"{window.height:,} queries, {window['time'][0]} to {window['time'][-1]}",
            "reference": f"{reference.height:,} {source}",
            "served": "what the running server says" if served else "no server is running",
            "level": f"{self.limits.level} of the corrected p-value",
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._report(job, facts, found, checks, window)

    def _checks(
        self,
        composed: Composed,
        served: list[str],
        encoding: tuple[Encoder | None, LiveEncoder | None],
        window: pl.DataFrame,
        rng: np.random.Generator,
    ) -> list[Check]:
        """Index, encoder and vectors: of what is served, or of what would be."""
        runtime = composed.runtime
        addresses = served or [a.stored().address for a in composed.artifacts]
        artifacts, now = runtime.store.root, runtime.get(composed.data).catalogue
        products = artifacts / addresses[0] / "products.parquet"
        if not products.exists():
            raise InputError(f"{products.parent}: the served catalogue is not there any more")
        checks = health.staleness(products, now, self.limits.stale)
        checks.append(health.age(artifacts, addresses, time.time()))
        encoder, live = encoding
        indexes = [one for one in addresses if one.startswith("index/")]
        if encoder is None or live is None or not indexes:
            return checks
        dense = dense_of(composed.retriever)
        assert dense is not None
        load = dense.index.build(encoder.product_embeddings(composed.data)).load
        index = health.served_index(artifacts, indexes[0], load)
        catalogue = type(now)(products)
        texts = catalogue.all_texts(encoder.fields, encoder.separator)
        identity = encoder.identity(composed.data)
        checks += health.encoder_checks(index, identity, live, texts)
        if not any(check.alarm for check in checks[2:]):  # else its queries mean nothing there
            asked = list(window["text"].drop_nulls().unique(maintain_order=True))
            if asked:
                canaries = live.encode(asked[: health.CANARIES])
                checks.append(health.recall(index, canaries, self.limits.recall))
        return checks + health.spread(index.embeddings.vectors, rng)

    def _report(
        self,
        job: Job,
        facts: dict[str, str],
        found: list[Drift],
        checks: list[Check],
        window: pl.DataFrame,
    ) -> None:
        alarms = [f"{one.feature} (q {one.q:.2g})" for one in found if one.alarm]
        alarms += [f"{one.name}: {one.value:.4g}" for one in checks if one.alarm]
        report: dict[str, Any] = {
            **facts,
            "alarms": alarms,
            "drift": [asdict(one) for one in found],
            "checks": [_finite(asdict(one)) for one in checks],
        }
        folder = job.folder / "monitor"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
        write_whole(folder / "index.html", page(report, window).encode())
        for drift in found:
            mark = "ALARM" if drift.alarm else "ok"
            print(f"{mark:>6}  {drift.feature}: q {drift.q:.3g} ({drift.detector})")
        for check in checks:
            mark = "ALARM" if check.alarm else "ok" if check.limit else ""
            print(f"{mark:>6}  {check.name}: {check.value:.4g}  {check.note}")
        job.runtime.say(f"to look at: {folder / 'index.html'}")
        if alarms:
            raise AlarmError(f"alarm: {'; '.join(alarms)}")


def _finite(check: dict[str, Any]) -> dict[str, Any]:
    return {**check, "value": check["value"] if math.isfinite(check["value"]) else None}


def _served(record: Path, system: str | None) -> list[str]:
    """Addresses of what a running server serves; none where no server runs."""
    if not record.exists():
        return []
    systems = health.record_of(record)["systems"]
    name = system or next(iter(systems))
    if name not in systems:
        raise InputError(f"task.system={name}: served are {', '.join(systems)}")
    found: list[str] = systems[name]["artifacts"]
    return found


def dense_of(retriever: Any) -> Dense | None:
    """The first dense retriever within a system.

    Args:
        retriever: a recipe.

    Returns:
        Itself, or one of its parts; None where it has none.
    """
    if isinstance(retriever, Dense):
        return retriever
    members = getattr(retriever, "members", None)
    parts = list(members.values()) if members else [getattr(retriever, "retriever", None)]
    found = (dense_of(part) for part in parts if part is not None)
    return next((one for one in found if one is not None), None)


def encoder_of(composed: Composed) -> Encoder | None:
    """The encoder of the first dense retriever within a system, if it reads words.

    Args:
        composed: the system.

    Returns:
        The encoder, or None.
    """
    dense = dense_of(composed.retriever)
    return dense.encoder if dense is not None and dense.encoder.reads_words else None


def _metrics(url: str) -> str:
    try:
        with urlopen(f"{url.rstrip('/')}/metrics", timeout=10) as answer:
            content: bytes = answer.read()
    except (OSError, ValueError) as error:
        raise InputError(f"task.url={url}: {error}") from None
    return content.decode()
