"""`task=load`: how many requests a second the served system answers, and how fast, over loopback.

Starts the server as `task=serve` does, in a process of its own, finds its capacity, and offers
loads from a quarter of it to three times as much: open loop, Poisson arrivals, the split's queries
by Zipf's law. Figures of a server beside its load are pessimistic: both share the cores.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.store import write_whole
from neurosearch.serving.load import closed, offered, posted
from neurosearch.task.base import Job
from neurosearch.task.serve import Serve, typed_overrides

SHARES = (0.25, 0.5, 0.75, 0.9, 1.0, 1.2, 3.0)  # of the capacity
CALLERS = 16  # that find the capacity: as many as there are threads, so that none is refused
START = 600  # seconds that a server may take to build and to open


@dataclass(frozen=True)
class Load(Serve):
    """Attributes:
    url: of a server that runs already, such as `http://localhost:8000`; None to start one.
    rates: requests a second of each step; None for shares of the capacity.
    seconds: of each step.
    repeats: of all steps; the table has their mean.
    k: products of an answer.
    seed: of moments and queries.
    systems, server: of the server that is started; the first system is asked.
    """

    url: str | None = None
    rates: tuple[float, ...] | None = None
    seconds: float = setting(10.0, above=0)
    repeats: int = setting(1, least=1)
    k: int = setting(10, least=1, most=100)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(rate <= 0 for rate in self.rates or ()):
            raise self.error("rates", f"must all be above 0, not {list(self.rates or ())}")

    def run(self, job: Job) -> None:
        split = job.evaluation.split
        texts = job.runtime.get(job.dataset).queries(split).texts
        folder = job.folder / "load"
        folder.mkdir(parents=True, exist_ok=True)
        if self.url is not None:
            steps = self.measured(self.url.rstrip("/"), texts, None, job)
        else:
            with started([*typed_overrides(), *typed_settings()], folder) as (url, process):
                steps = self.measured(url, texts, process.pid, job)
        frame = pl.DataFrame(steps)
        write_whole(folder / "steps.csv", frame.write_csv(float_precision=2).encode())
        facts = {"system": job.retriever.label(), "data": job.data.label(), "split": split}
        facts |= {"seconds": str(self.seconds), "seed": str(self.seed), "hardware": hardware()}
        facts |= {"commit": git_commit(), "settings": " ".join(typed_settings())}
        text = markdown(frame, facts)
        write_whole(folder / "load.md", text.encode())
        print(text)
        job.runtime.say(f"results: {folder}")

    def measured(
        self, url: str, texts: Sequence[str], process: int | None, job: Job
    ) -> list[dict[str, float]]:
        """Every step of the load.

        Args:
            url: of the server.
            texts: of the queries.
            process: of the server; None where it is not ours to look at.
            job: whose progress is shown.

        Returns:
            One line a step, means over the repeats.
        """
        requests = [posted(f"{url}/v1/search", {"query": t, "k": self.k}) for t in texts]
        try:
            capacity = asyncio.run(closed(url, requests, min(3.0, self.seconds), CALLERS))
        except OSError as error:
            raise InputError(f"task.url={url}: {error.strerror or error}") from None
        job.runtime.say(f"capacity: {capacity:.0f} requests a second of {CALLERS} callers in turn")
        if capacity == 0:
            raise InputError(f"{url} answers no search with 200; does it need a key?")
        rates = self.rates or tuple(share * capacity for share in SHARES)
        steps = []
        with job.runtime.progressing("steps of the load", len(rates) * self.repeats) as advance:
            for number, rate in enumerate(rates):
                lines = []
                for repeat in range(self.repeats):
                    rng = np.random.default_rng([self.seed, number, repeat])
                    lines.append(step(url, requests, rate, self.seconds, rng, process))
                    advance(1)
                mean = {name: float(np.mean([line[name] for line in lines])) for name in lines[0]}
                steps.append({**mean, "of capacity": rate / capacity})
        return steps


def step(
    url: str,
    requests: list[bytes],
    rate: float,
    seconds: float,
    rng: np.random.Generator,
    process: int | None,
) -> dict[str, float]:
    """Offer a load, and say what became of it and of the server.

    Args:
        url: of the server.
        requests: that are drawn from.
        rate: requests a second.
        seconds: of the step.
        rng: of moments and requests.
        process: of the server; None where it is not ours to look at.

    Returns:
        Rates, latencies and shares (`Observed.summary`), hits, batches, cores and memory.
    """
    before, used = counters(url), cpu_seconds(process)
    start = time.monotonic()
    found = asyncio.run(offered(url, requests, rate, seconds, rng))
    spent = time.monotonic() - start
    after = counters(url)
    gained = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in after}
    hits, lookups = gained.get("hits", 0.0), gained.get("lookups", 0.0)
    batches = gained.get("batches", 0.0)
    cores = (cpu_seconds(process) - used) / spent
    return {
        **found.summary(),
        "hits %": 100 * hits / lookups if lookups else 0.0,
        "batch": gained.get("encoded", 0.0) / batches if batches else 0.0,
        "cores": cores,
        "memory MB": memory_mb(process),
    }


def typed_settings() -> list[str]:
    """What was typed of the server that is started.

    Returns:
        Overrides.
    """
    from hydra.core.hydra_config import HydraConfig

    overrides = HydraConfig.get().overrides.task
    return [o for o in overrides if o.lstrip("+").startswith(("task.server.", "task.systems"))]


def markdown(frame: pl.DataFrame, facts: dict[str, str]) -> str:
    """The table of a load.

    Args:
        frame: one line a step.
        facts: about the run.

    Returns:
        Markdown.
    """
    head = f"| {' | '.join(frame.columns)} |\n|{'---:|' * frame.width}\n"
    lines = ["| " + " | ".join(shown(value) for value in row) + " |" for row in frame.iter_rows()]
    about = "; ".join(f"{name} {value}" for name, value in facts.items() if value)
    return head + "\n".join(lines) + f"\n\nOpen loop over loopback; {about}.\n"


def shown(value: float) -> str:
    """A number with as many decimals as it needs."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"


@contextmanager
def started(
    overrides: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server in a process of its own.

    Args:
        overrides: of its system, and `task.server.…` of itself.
        folder: for its output, server.log.
        environment: added to this process's.

    Returns:
        A context that yields its URL and process; the server is stopped at its end.

    Raises:
        InputError: it did not start; the message is its own.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "neurosearch", *overrides, "task=serve"]
    log = folder / "server.log"
    with log.open("wb") as handle:
        options = [f"task.server.port={port}"]
        told = {**os.environ, **(environment or {})}
        process = subprocess.Popen([*command, *options], stdout=handle, stderr=handle, env=told)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process, log)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server is ready.

    Args:
        url: of the server.
        process: the server's.
        log: what it printed.

    Raises:
        InputError: it ended, or took too long.
    """
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            lines = log.read_text("utf-8", "replace").strip().splitlines() or ["no output"]
            raise InputError(f"the server did not start: {lines[-1]}")
        try:
            with urlopen(f"{url}/health/ready", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise InputError(f"the server was not ready after {START} seconds; see {log}")


COUNTED = {
    'neurosearch_cache_requests_total{level="answers",outcome="hit"}': ("hits", "lookups"),
    'neurosearch_cache_requests_total{level="answers",outcome="miss"}': ("lookups",),
    'neurosearch_cache_requests_total{level="answers",outcome="shared"}': ("lookups",),
    "neurosearch_batch_size_sum": ("encoded",),
    "neurosearch_batch_size_count": ("batches",),
}


def counters(url: str) -> dict[str, float]:
    """Counts of a server's cache and batches; empty where it does not show them.

    Args:
        url: of the server.

    Returns:
        Counts by name.
    """
    found: dict[str, float] = {}
    try:
        with urlopen(f"{url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, value = line.rpartition(" ")
        for counted in COUNTED.get(name, ()):
            found[counted] = found.get(counted, 0.0) + float(value)
    return found


def family(process: int | None) -> list[int]:
    """A process and its children, where the system says so (Linux)."""
    if process is None:
        return []
    children = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        children += [int(child) for child in path.read_text().split()]
    return [process, *(one for child in children for one in family(child))]


def cpu_seconds(process: int | None) -> float:
    """CPU time of a process and its children so far; 0 where the system does not say."""
    total = 0
    for one in family(process):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return total / os.sysconf("SC_CLK_TCK")


def memory_mb(process: int | None) -> float:
    """Resident memory of a process and its children; 0 where the system does not say."""
    total = 0
    for one in family(process):
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6
