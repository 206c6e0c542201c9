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
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO
from unittest import mock

# Networks and Hydra take the rest.
PRELOADED = ["neurosearch.app", "transformers", "pytorch_lightning", "polars", "tests.warmed"]
START = "forkserver"
COMMAND = [sys.executable, "-W", "ignore", "-m", "neurosearch"]
_RUN = subprocess.run  # tests replace it by `routed`
_CONTEXT = multiprocessing.get_context(START)
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
        told = {**os.environ, **(environment or {})}
        done = _RUN([*COMMAND, *words], capture_output=True, text=True, env=told)
        return Done(done.returncode, done.stdout, done.stderr)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("out", "err")]
        process = _CONTEXT.Process(target=_main, args=(list(words), environment or {}, files))
        process.start()
        process.join()
        out, err = (path.read_text(errors="replace") for path in files)
        return Done(int(process.exitcode or 0), out, err)


def routed(command: Sequence[str], **options: Any) -> Any:
    """`subprocess.run` for a script that starts commands: those of the package are forked."""
    if list(command[:5]) == COMMAND:
        return run(command[5:], options.get("env"))
    return _RUN(command, **options)


class Forked(ForkServerProcess):
    """What `neurosearch.task.load` needs of `subprocess.Popen`, for a forked server."""

    def __init__(
        self, command: Sequence[str], stdout: BinaryIO, stderr: BinaryIO, env: dict[str, str]
    ) -> None:
        assert list(command[:5]) == COMMAND
        files = [Path(stdout.name), Path(stderr.name)]
        super().__init__(target=_main, args=(list(command[5:]), env, files))
        self.start()

    @property
    def returncode(self) -> int | None:
        return self.exitcode

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired("a forked server", timeout or 0)
        return self.exitcode

    def send_signal(self, number: int) -> None:
        if self.exitcode is None and self.pid is not None:
            os.kill(self.pid, number)


def forked_servers() -> Any:
    """A context in which `neurosearch.task.load.started` forks its servers."""
    fork = SimpleNamespace(Popen=Forked, TimeoutExpired=subprocess.TimeoutExpired)
    return mock.patch("neurosearch.task.load.subprocess", fork)


def _main(words: list[str], environment: dict[str, str], files: list[Path]) -> None:
    for number, path in enumerate(files, 1):
        opened = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
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
