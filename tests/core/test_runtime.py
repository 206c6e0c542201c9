"""Runtime: what it refuses, and progress where nobody watches."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.machine import hardware, peak_memory_mb
from neurosearch.core.runtime import Runtime


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"runtime\.threads must be at least 1, not 0"):
        Runtime(tmp_path, threads=0)
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"runtime\.device=cuda, but torch sees no CUDA"):
            Runtime(tmp_path, device="cuda").torch_device()


def test_progress_is_logged_by_tenths_without_a_terminal(tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO, "neurosearch")
    with Runtime(tmp_path).progressing("working", 100) as advance:
        for _ in range(100):
            advance(1)
    assert [r.message for r in caplog.records][-1] == "working: 100 of 100"
    assert len(caplog.records) == 10


def test_facts_about_the_machine() -> None:
    cores = len(os.sched_getaffinity(0))
    assert f"({cores} cores)" in hardware() and hardware(cores) == hardware()
    assert f"({cores} cores, {cores + 2} threads)" in hardware(cores + 2)
    assert peak_memory_mb() > 10


@pytest.mark.parametrize(
    ("said", "expected"),
    [("3", 3), ("4,2", 4), (" 04", 4), ("64", 8), ("", 8), ("0", 8), ("2.5", 8), (None, 8)],
)
def test_threads_are_a_share_where_a_launcher_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    if said is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert Runtime(tmp_path).cpu_threads == expected
    assert Runtime(tmp_path, threads=2).cpu_threads == 2
