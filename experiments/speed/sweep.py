"""What a sweep costs beyond its builds, and what kills do to it.

24 jobs that share their upstream (four fusions × three depths × two query processings) on the
built-in shop with 30,000 products: wall time over the sum of what its distinct artifacts took to
build; the same again; with two workers at once (is anything built twice?); and killed (SIGKILL,
the whole process group) at ten random moments before it is let finish: is every artifact whole, is
the table the same? Results in results/sweep.csv.

    python experiments/speed/sweep.py
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from neurosearch.core.artifact import MANIFEST
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.store import verify

SWEEP = [
    "-m", "name=sweep", "data=shop", "data.n_products=30000", "data.images=false",
    "retriever=hybrid", "fusion@retriever.fusion=rrf,combsum,combmnz,convex",
    "evaluation.depth=100,200,500", "query=none,normalize", "evaluation.latency.queries=0",
    "runtime.progress=false", "evaluation.resamples=1000", "seed=0",
]  # fmt: skip
TWO = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "runtime.threads=1"]
KILLS = 10
COSTS = ("build s", "index MB", "bytes/product")
COLUMNS = ["what", "value", "unit", "hardware", "commit"]


def start(outputs: Path, *more: str) -> subprocess.Popen[bytes]:
    """The sweep, in a process group of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "neurosearch", *SWEEP, *more]
    environment = {**os.environ, "NEUROSEARCH_OUTPUTS": str(outputs)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )


def finished(outputs: Path, *more: str) -> float:
    """Seconds of a whole run."""
    began = time.perf_counter()
    if start(outputs, *more).wait() != 0:
        raise SystemExit("the sweep failed")
    return time.perf_counter() - began


def manifests(outputs: Path) -> dict[Path, dict[str, Any]]:
    """Of all finished artifacts, by folder."""
    found = (outputs / "artifacts").glob(f"*/*/{MANIFEST}")
    return {path.parent: json.loads(path.read_text("utf-8")) for path in found}


def built(outputs: Path) -> list[str]:
    """What the jobs' records say they built; names repeat where something was built twice."""
    events = []
    for path in (outputs / "jobs" / "sweep").glob("*/record.json"):
        events += json.loads(path.read_text("utf-8"))["artifacts"]
    return [f"{e['kind']}/{e['fingerprint']}" for e in events if e["event"] == "built"]


def tables(outputs: Path) -> dict[str, str]:
    """The table's numbers of quality: Lucene's files differ by some bytes from build to build."""
    found = {}
    for path in (outputs / "tables" / "sweep").glob("*.csv"):
        with path.open(newline="") as handle:
            rows = [r for r in csv.DictReader(handle) if r["metric"] not in COSTS]
        keys = ("system", "metric", "mean", "ci_low", "ci_high", "p_holm")
        found[path.name] = json.dumps([[row[key] for key in keys] for row in rows])
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        once, twice, killed = (Path(made) / name for name in ("once", "twice", "killed"))
        first = finished(once)
        whole = manifests(once)
        sums = sum(manifest["seconds"] for manifest in whole.values())
        again = finished(once)
        parallel = finished(twice, *TWO)
        names = built(twice)
        rng, alive = random.Random(0), 0
        for _ in range(KILLS):
            process = start(killed)
            time.sleep(rng.uniform(2, 0.9 * first / 3))
            alive += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        torn = [p for p, m in manifests(killed).items() if verify(p, m, p.name)]
        after = finished(killed)
        torn += [p for p, m in manifests(killed).items() if verify(p, m, p.name)]
        same = tables(killed) == tables(once) == tables(twice)
        lost = {(p.parent.name, p.name) for p in whole} ^ {
            (p.parent.name, p.name) for p in manifests(killed)
        }
    lines: list[tuple[str, Any, str]] = [
        ("jobs", 24, "jobs"),
        ("distinct artifacts", len(whole), "artifacts"),
        ("wall time", round(first, 1), "s"),
        ("sum of the artifacts' build times", round(sums, 1), "s"),
        ("wall time over that sum", round(first / sums, 3), "ratio"),
        ("beyond that sum: imports, configs, the table", round(first - sums, 1), "s"),
        ("the same command again", round(again, 1), "s"),
        ("two workers", round(parallel, 1), "s"),
        ("built twice by two workers", len(names) - len(set(names)), "artifacts"),
        ("kills that met it alive", alive, "kills"),
        ("finishing after the kills", round(after, 1), "s"),
        ("torn artifacts after the kills", len(torn), "artifacts"),
        ("artifacts missing or added after the kills", len(lost), "artifacts"),
        ("the three tables are the same", int(same), "1 for yes"),
    ]
    with (Path(__file__).parent / "results" / "sweep.csv").open("w", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        for line in lines:
            print(*line)
            table.writerow([*line, hardware(), git_commit()])


if __name__ == "__main__":
    main()
