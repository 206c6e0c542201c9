"""What machine this is, which commit runs on it, and its log."""

from __future__ import annotations

import logging
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path

log = logging.getLogger("neurosearch")


def is_running(number: str) -> bool:
    """Whether a process of this machine with that number exists."""
    return Path("/proc", number).exists()


def peak_memory_mb() -> float:
    """Peak resident memory of this process and of its largest child, in MB."""
    this_process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return max(this_process, children) / unit


@cache
def hardware(threads: int | None = None) -> str:
    """CPU model, cores and GPU (if any), in one phrase for tables.

    Args:
        threads: of a job; said where they are not as many as the cores.

    Returns:
        Such as `AMD EPYC (64 cores, 5 threads) + NVIDIA H200`.
    """
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    cores = len(os.sched_getaffinity(0))
    given = "" if threads in (None, cores) else f", {threads} thread{'s' * (threads != 1)}"
    text = f"{model} ({cores} cores{given})"
    gpu = _gpu_name()
    return f"{text} + {gpu}" if gpu else text


@cache
def _gpu_name() -> str:
    # Without importing torch: a table of cached results must start fast.
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else ""


@cache
def git_commit() -> str:
    """Short commit of the source tree, and `+` where files differ from it or are new; else ''.

    NEUROSEARCH_COMMIT says it where the tree was copied without its history.
    """
    message = os.environ.get("NEUROSEARCH_COMMIT")
    if message:
        return message
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=10", "HEAD")
        # Generated results lie in the tree; that they are new doesn't change the code.
        dirty = git(
            "status", "--porcelain", "--untracked-files=normal", "--", "neurosearch", "conf"
        )
    except OSError:
        return ""
    return commit + ("+" if commit and dirty else "")
