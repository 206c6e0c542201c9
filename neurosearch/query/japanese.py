"""Japanese words by Lucene's morphological analyser (Kuromoji), which Anserini's jar carries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from threading import Lock

from neurosearch.core.errors import InputError
from neurosearch.query import japanese_worker
from neurosearch.query.java import anserini_jar, java_home, jvm_library


class Segmenter:
    """A child process that is started at the first text, and ends with this one."""

    def __init__(self) -> None:
        script = str(Path(japanese_worker.__file__))
        self._lock = Lock()
        places = [str(anserini_jar()), str(java_home()), str(jvm_library())]
        self._process = subprocess.Popen(
            [sys.executable, "-P", script, *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )

    def __call__(self, text: str) -> tuple[str, ...]:
        """Tokens in their base form, without particles; compounds come with their parts.

        Raises InputError where the process ended.
        """
        assert self._process.stdin and self._process.stdout
        try:
            with self._lock:  # one line in, one line out, whichever thread asks
                self._process.stdin.write(json.dumps(text) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise InputError("stemmer=kuromoji: Lucene's process ended; stemmer=none needs no Java")
        return tuple(json.loads(line))


def segmenter() -> Segmenter:
    """The segmenter of this process."""
    return _segmenter(os.getpid())


@cache
def _segmenter(process: int) -> Segmenter:
    return Segmenter()
