"""Commands of tests, run in forked processes that have imported the slow packages already.

A fork server (one a test process) imports once what most commands import; each command then runs in
a process of its own, as a user's does, without the seconds of imports.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Networks and Hydra take the rest.
PRELOADED = ["neurosearch.app", "transformers", "pytorch_lightning", "polars", "tests.warmed"]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def run(words: Sequence[str], environment: dict[str, str] | None = None) -> Done:
    """Run `python -m neurosearch` with these words; `environment` adds to the present one."""
    if any(word.startswith("hydra/launcher") for word in words):
        # A launcher's workers import the main module, which must be the package's.
        line = [sys.executable, "-W", "ignore", "-m", "neurosearch", *words]
        told = {**os.environ, **(environment or {})}
        done = subprocess.run(line, capture_output=True, text=True, env=told)
        return Done(done.returncode, done.stdout, done.stderr)
    with tempfile.TemporaryDirectory() as folder:
        process = _CONTEXT.Process(target=_main, args=(list(words), environment or {}, folder))
        process.start()
        process.join()
        out, err = (Path(folder, name).read_text(errors="replace") for name in ("out", "err"))
        return Done(int(process.exitcode or 0), out, err)


def _main(words: list[str], environment: dict[str, str], folder: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        opened = os.open(Path(folder, name), os.O_CREAT | os.O_WRONLY)
        os.dup2(opened, number)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    os.environ.update(environment)
    sys.argv = ["neurosearch", *words]
    import warnings

    from neurosearch.__main__ import main

    warnings.simplefilter("ignore")
    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
