"""A sweep on a cluster of this machine: nothing is built twice, and a killed node is survived.

24 jobs that share what they stand on run on a Ray cluster of two nodes on loopback (started here,
`pip install "neurosearch[ray]"`), or on the SLURM cluster that runs here (see
experiments/sweeps/slurm_here.sh): once undisturbed, and once while a node is killed (SIGKILL, with
its jobs) when a quarter of the jobs are done. The tables must be those of plain processes, and each
artifact must have been built once. Results in results/cluster.csv.

    python experiments/speed/cluster.py ray        # or: slurm
"""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep import COLUMNS, built, finished, manifests, start, tables

from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.store import verify

PORT = 6399
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
JOBS = 24
LAUNCHERS = {
    "ray": ["hydra/launcher=ray", f"hydra.launcher.address=127.0.0.1:{PORT}"],
    "slurm": [
        *("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=0", "hydra.launcher.mem_gb=null"),
        *("hydra.launcher.cpus_per_task=1", "runtime.threads=1"),
    ],
}


def processes(*names: str) -> dict[int, list[str]]:
    """Command lines of running processes whose first word ends with one of the names, by id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(words[0].rstrip(":")).name.split(":")[0] in names:
                found[int(path.name)] = words
    return found


def ray_started() -> None:
    """A head and a second node, a core each."""
    subprocess.run([*RAY, "stop", "--force"], capture_output=True, check=False)
    quiet = ["--num-cpus=1", "--disable-usage-stats"]
    head = ["start", "--head", f"--port={PORT}", "--include-dashboard=false", *quiet]
    subprocess.run([*RAY, *head], check=True, capture_output=True)
    second = ["start", f"--address=127.0.0.1:{PORT}", *quiet]
    subprocess.run([*RAY, *second], check=True, capture_output=True)


def ray_killed() -> None:
    """Kill the second node: its raylet, and with it its workers."""
    os.kill(max(processes("raylet")), signal.SIGKILL)


def slurm_killed() -> None:
    """Kill the node's daemon and all that it runs, and start the daemon again."""
    listed = subprocess.run(["scontrol", "listpids"], capture_output=True, text=True, check=False)
    jobs = [int(line.split()[0]) for line in listed.stdout.splitlines()[1:]]
    for process in [*processes("slurmd", "slurmstepd"), *jobs]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    time.sleep(2)
    subprocess.run(["slurmd"], check=True)


def disturbed(outputs: Path, words: list[str], kill: Callable[[], None]) -> tuple[float, int]:
    """Seconds of a sweep one of whose nodes is killed, and how many jobs were done by then."""
    began = time.perf_counter()
    process = start(outputs, *words)
    while True:
        done = len(list((outputs / "jobs" / "sweep").glob("*/record.json")))
        if done >= JOBS // 4:
            break
        if process.poll() is not None:
            raise SystemExit("the sweep ended before its node was killed")
        time.sleep(0.05)
    kill()
    if process.wait() != 0:
        raise SystemExit("the sweep failed after its node was killed")
    return time.perf_counter() - began, done


def main() -> None:
    """Run the three sweeps, and write the results."""
    kind = sys.argv[1] if sys.argv[1:] else "ray"
    words = LAUNCHERS[kind]
    kill = {"ray": ray_killed, "slurm": slurm_killed}[kind]
    if kind == "ray":
        ray_started()
    with tempfile.TemporaryDirectory() as made:
        plain, whole, killed = (Path(made) / name for name in ("plain", "whole", "killed"))
        alone = finished(plain)
        together = finished(whole, *words)
        names = built(whole)
        if kind == "ray":
            ray_started()
        after, done = disturbed(killed, words, kill)
        torn = [p for p, m in manifests(killed).items() if verify(p, m, p.name)]
        records = len(list((killed / "jobs" / "sweep").glob("*/record.json")))
        same = tables(plain) == tables(whole) == tables(killed)
        lines: list[tuple[str, Any, str]] = [
            ("one process after the other", round(alone, 1), "s"),
            ("the cluster", round(together, 1), "s"),
            ("built twice", len(names) - len(set(names)), "artifacts"),
            ("distinct artifacts", len(set(names)), "artifacts"),
            ("jobs done when a node was killed", done, "jobs"),
            ("the cluster with the kill", round(after, 1), "s"),
            ("jobs done at the end", records, "jobs"),
            ("torn artifacts after the kill", len(torn), "artifacts"),
            ("the three tables are the same", int(same), "1 for yes"),
        ]
    if kind == "ray":
        subprocess.run([*RAY, "stop", "--force"], capture_output=True, check=False)
    path = Path(__file__).parent / "results" / "cluster.csv"
    kept = []
    if path.exists():
        with path.open(newline="") as handle:
            kept = [row for row in list(csv.reader(handle))[1:] if not row[0].startswith(kind)]
    with path.open("w", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(kept)
        for name, value, unit in lines:
            print(f"{kind}: {name}", value, unit)
            table.writerow([f"{kind}: {name}", value, unit, hardware(), git_commit()])


if __name__ == "__main__":
    main()
