"""Serving under load on this machine: capacity, latency by rate, shedding, hot swaps, memory.

Run: python experiments/serving/serving.py data=home_depot   (writes results/<data>.csv and .md)
     `minutes=10` of swaps and the memory's watch (0 for none), `seconds=10` of each step;
     `uncached` leaves the cached rows out, `cached` the others, `only=Hybrid` other systems.
     Other words are overrides. A run replaces the rows that it measures, and keeps the others.

The server and its load share the machine's cores. Cached rows ask 200 queries by Zipf's law, all of
which were asked before; uncached ones keep neither answers nor vectors.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import polars as pl
from hydra import compose, initialize_config_module

from neurosearch.core.machine import git_commit, hardware
from neurosearch.serving.load import Connection, closed, host_and_port, offered, posted
from neurosearch.task.base import Job
from neurosearch.task.load import CALLERS, SHARES, memory_mb, started, step
from neurosearch.task.serve import composed_of

HNSW = "index@retriever.index=hnsw"
SYSTEMS = {
    "BM25 (Lucene)": ["retriever=bm25"],
    "MiniLM, exact": ["retriever=dense"],
    "MiniLM, HNSW": ["retriever=dense", HNSW],
    "Hybrid RRF": ["retriever=hybrid"],
    "BM25 + LambdaMART": [
        *("retriever=reranked", "reranker@retriever.reranker=lambdamart"),
        *("retriever@retriever.retriever=bm25", "retriever.depth=50"),
    ],
}
UNCACHED = ["task.server.cache.answers=0", "task.server.cache.vectors=0"]
CACHED = 200  # queries of the cached rows
SINGLE = 300  # queries of one caller after the other
SWAPS = 20
KEY = "the administrator's key of this benchmark"


def single(url: str, requests: list[bytes]) -> float:
    """Median milliseconds of one caller."""

    async def asked() -> list[float]:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, *host_and_port(url))
        times = []
        for request in requests:
            start = loop.time()
            assert await connection.ask(request) == 200
            times.append(1000 * (loop.time() - start))
        connection.close()
        return times

    return float(np.median(asyncio.run(asked())))


def directly(overrides: list[str], texts: list[str]) -> float:
    """Median milliseconds of the system's searcher, called without a server, alone."""
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=overrides)
    job = Job.compose(config, overrides, 0, Path(tempfile.gettempdir()))
    made = composed_of(job, job.runtime)
    with made.retriever.searcher(made.data, made.request, job.runtime) as live:
        for text in texts[:20]:
            live.search([text], 10)
        times = []
        for text in texts:
            start = time.perf_counter()
            live.search([text], 10)
            times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


def steps(url: str, requests: list[bytes], process: int, seconds: float) -> list[dict[str, float]]:
    """Loads from a quarter of the capacity to three times as much."""
    capacity = asyncio.run(closed(url, requests, min(5.0, seconds), CALLERS))
    found = []
    for number, share in enumerate(SHARES):
        rng = np.random.default_rng([0, number])
        line = step(url, requests, share * capacity, seconds, rng, process)
        del line["hits %"]  # all or nothing here
        found.append({"of capacity": share, **line})
        print({name: round(value, 2) for name, value in found[-1].items()}, flush=True)
    return found


def swapped(url: str, requests: list[bytes], rate: float) -> dict[str, float]:
    """Twenty reloads in turn while requests come at half the capacity."""
    stop = threading.Event()
    taken: list[float] = []

    def reload() -> None:
        head = {"Content-Type": "application/json", "X-API-Key": KEY}
        for number in range(SWAPS):
            body = json.dumps({"systems": {}}).encode()
            start = time.monotonic()
            with urlopen(Request(f"{url}/admin/reload", body, head), timeout=120) as answer:
                assert answer.status == 200, number
            taken.append(time.monotonic() - start)
        stop.set()

    thread = threading.Thread(target=reload)
    thread.start()
    parts = []
    while not stop.is_set():
        rng = np.random.default_rng([1, len(parts)])
        parts.append(asyncio.run(offered(url, requests, rate, 2.0, rng)))
    thread.join()
    status = np.concatenate([part.status for part in parts])
    seconds = np.concatenate([part.answered for part in parts])
    return {
        "swaps": float(len(taken)),
        "requests meanwhile": float(len(status)),
        "answered with 200": float((status == 200).sum()),
        "p99 ms meanwhile": 1000 * float(np.percentile(seconds, 99)),
        "seconds a swap": float(np.median(taken)),
    }


def watched(
    url: str, requests: list[bytes], process: int, rate: float, minutes: float
) -> list[float]:
    """Memory in MB, every half minute of a steady load."""
    found = [memory_mb(process)]
    for number in range(max(1, int(2 * minutes))):
        rng = np.random.default_rng([2, number])
        asyncio.run(offered(url, requests, rate, min(30.0, 60 * minutes), rng))
        found.append(memory_mb(process))
    return found


def main() -> None:
    """Measure every system, and write the results."""
    words = dict(w.split("=", 1) for w in sys.argv[1:] if w.startswith(("minutes=", "seconds=")))
    only = next((w.split("=")[1] for w in sys.argv[1:] if w.startswith("only=")), "")
    own = ("minutes", "seconds", "uncached", "cached", "only")
    rest = [w for w in sys.argv[1:] if w.split("=", 1)[0] not in own]
    kinds = [
        kind for kind, other in ((False, "cached"), (True, "uncached")) if other not in sys.argv
    ]
    minutes, seconds = float(words.get("minutes", 10)), float(words.get("seconds", 10))
    os.environ["BENCHMARK_ADMIN"] = KEY
    data = next((w.split("=")[1] for w in rest if w.startswith("data=")), "shop")
    texts = queries(rest)
    lines: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, overrides in SYSTEMS.items():
        if only not in name:
            continue
        system = [*rest, *overrides]
        alone = directly(system, texts[:SINGLE])
        for cached in kinds:
            asked = texts[:CACHED] if cached else texts
            options = [] if cached else UNCACHED
            options = [*options, "task.server.admin_keys=[BENCHMARK_ADMIN]"]
            with (
                tempfile.TemporaryDirectory() as folder,
                started([*system, *options], Path(folder)) as (url, process),
            ):
                requests = [posted(f"{url}/v1/search", {"query": text}) for text in asked]
                for request in requests if cached else requests[:50]:
                    single(url, [request])
                one = single(url, requests[:SINGLE])
                print(name, "cached" if cached else "uncached", alone, one, flush=True)
                found = steps(url, requests, process.pid, seconds)
                more = {"system": name, "cached": cached, "searcher p50 ms": alone}
                more |= {"hardware": hardware(), "commit": git_commit()}
                lines += [{**more, "one caller p50 ms": one, **step} for step in found]
                if name == "MiniLM, HNSW" and minutes:
                    half = found[1]["rate"]
                    if not cached:
                        seen = swapped(url, requests, half)
                        told = "; ".join(f"{key} {value:,.4g}" for key, value in seen.items())
                        notes.append(
                            f"Hot swaps of {name}, uncached, at half the capacity: {told}."
                        )
                    memory = watched(
                        url, requests, process.pid, half, minutes if not cached else 0.5
                    )
                    told = ", ".join(f"{value:,.0f}" for value in memory)
                    kind = "cached" if cached else "uncached"
                    notes.append(
                        f"Memory (MB, resident) of {name}, {kind}, every half minute at half the "
                        f"capacity, after the load and the swaps above: {told}."
                    )
        write(lines, notes, data)


def queries(overrides: list[str]) -> list[str]:
    """Texts of the test queries."""
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=overrides)
    job = Job.compose(config, overrides, 0, Path(tempfile.gettempdir()))
    found: list[str] = job.runtime.get(job.dataset).queries("test").texts
    return list(dict.fromkeys(found))


def shed(step: dict[str, Any]) -> str:
    """Shares that were refused at once, and that came too late."""
    return f"{step['shed %']:.0f} %, {step['late %']:.0f} %"


def write(lines: list[dict[str, Any]], notes: list[str], data: str) -> None:
    """results/<data>.csv has every step, results/<data>.md the table."""
    folder = Path(__file__).with_name("results")
    folder.mkdir(exist_ok=True)
    frame, path, kept = pl.DataFrame(lines), folder / f"{data}.csv", folder / f"{data}.notes.txt"
    if path.exists():
        keys, before = ["system", "cached"], pl.read_csv(path)
        frame = pl.concat([before.join(frame, on=keys, how="anti"), frame], how="vertical_relaxed")
        frame = frame.sort(
            pl.col("system").replace_strict(dict(zip(SYSTEMS, range(9), strict=False))),
            "cached",
            maintain_order=True,
        )
    frame.write_csv(path, float_precision=3)
    if notes:
        kept.write_text("\n".join(notes) + "\n", encoding="utf-8")
    elif kept.exists():
        notes = kept.read_text(encoding="utf-8").splitlines()
    columns = ["system", "answers kept", "one caller p50 ms", "over the searcher", "capacity/s"]
    columns += ["p50 at 50 %", "p99 at 50 %", "p99 at 90 %", "answered/s at 300 %"]
    columns += ["shed, late at 300 %", "p99 at 300 %", "errors", "batch at 90 %", "memory MB"]
    rows = []
    for (name, cached), part in frame.group_by(["system", "cached"], maintain_order=True):
        step = {row["of capacity"]: row for row in part.to_dicts()}
        one = step[1.0]["one caller p50 ms"]
        ratio = f"{one / step[1.0]['searcher p50 ms']:.2f}" if not cached else ""
        rows.append(
            [
                *(str(name), "yes" if cached else "no", f"{one:.2f}", ratio),
                *(f"{step[1.0]['rate']:,.0f}", f"{step[0.5]['p50 ms']:.1f}"),
                *(f"{step[0.5]['p99 ms']:.1f}", f"{step[0.9]['p99 ms']:.1f}"),
                *(f"{step[3.0]['answered/s']:,.0f}", shed(step[3.0])),
                *(f"{step[3.0]['p99 ms']:.0f}", f"{sum(s['errors'] for s in step.values()):.0f}"),
                *(f"{step[0.9]['batch']:.1f}", f"{step[1.0]['memory MB']:,.0f}"),
            ]
        )
    text = (
        f"## serving: {data}\n\n| {' | '.join(columns)} |\n|:---|{'---:|' * (len(columns) - 1)}\n"
    )
    text += "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n\n"
    text += "Milliseconds from the scheduled time, open loop, Poisson arrivals, over loopback; "
    text += "server and load share the cores. The load has 512 connections: a wait for one counts. "
    text += "Errors: 5xx but 503 and 504, and broken connections.\n\n"
    text += "\n\n".join(notes) + ("\n\n" if notes else "")
    made = ", ".join(frame["commit"].unique(maintain_order=True).to_list())
    text += f"Hardware: {'; '.join(frame['hardware'].unique())}. Commit: {made}. Command: python "
    text += f"experiments/serving/serving.py {' '.join(sys.argv[1:])}\n"
    (folder / f"{data}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
