"""Services of others behind a URL: one question, one JSON answer; and answers that are kept.

What was answered once is kept by its content, so that an interrupted job goes on where it stopped
and nothing is paid for twice.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError, first_line

TRIES = 4  # of a question that a busy service turned away
LONGEST_WAIT = 30.0  # seconds between two of them
SAID = 200  # characters of a refusal that are shown


@dataclass(frozen=True)
class Service:
    """A base URL.

    Attributes:
        role: of the config, for messages, such as `reranker`.
        key: the environment variable that holds the API key, if any.
        timeout: seconds, of one answer.
    """

    role: str
    url: str
    key: str
    timeout: float

    def check(self) -> None:
        """Raise InputError where nothing responds."""
        import httpx

        try:
            httpx.get(self.url, timeout=self.timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.refused(error) from None

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to `body`, as JSON; a busy service (429, 5xx) is tried again.

        Raises:
            InputError: with what the service said.
        """
        import httpx

        logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every call
        secret = os.environ.get(self.key, "").strip()
        if not secret.isprintable() or not secret.isascii():
            raise InputError(f"{self.key}: the environment variable holds what no key can have")
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        address = f"{self.url.rstrip('/')}/{path}"
        try:
            for attempt in range(TRIES):
                response = httpx.post(address, json=body, headers=headers, timeout=self.timeout)
                busy = response.status_code == 429 or response.status_code >= 500
                if not busy or attempt == TRIES - 1:
                    break
                time.sleep(_wait(response.headers.get("retry-after"), attempt))
            if response.is_error:
                said = " ".join(response.text.split())[:SAID].replace(secret or "\0", "***")
                raise self.refused(f"{response.status_code} {response.reason_phrase}: {said}")
            return response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self.refused(error) from None

    def refused(self, reason: Any) -> InputError:
        """The error that names this service."""
        fault = first_line(reason) if isinstance(reason, BaseException) else reason
        return InputError(f"{self.role}.endpoint={self.url}: {fault}")


class Answers:
    """Answers by key, in a file that several processes may use at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._base() as base:
            base.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value BLOB)")

    @contextmanager
    def _base(self) -> Iterator[sqlite3.Connection]:
        """The file, opened; what is written is kept whole or not at all."""
        try:
            with closing(sqlite3.connect(self._path, timeout=60)) as base, base:
                yield base
        except sqlite3.Error as error:
            raise InputError(f"{self._path}: {error}") from None

    def __len__(self) -> int:
        with self._base() as base:
            return int(base.execute("SELECT count(*) FROM answers").fetchone()[0])

    def known(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The kept answers among those of `keys`."""
        values: dict[str, bytes] = {}
        with self._base() as base:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                rows = base.execute(f"SELECT key, value FROM answers WHERE key IN ({marks})", part)
                values |= dict(rows)
        return values

    def values(self) -> list[bytes]:
        """All kept answers, in no order."""
        with self._base() as base:
            return [bytes(row[0]) for row in base.execute("SELECT value FROM answers")]

    def keep(self, answers: Mapping[str, bytes]) -> None:
        """Add answers, all of them or none."""
        with self._base() as base:
            base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", answers.items())


def key_of(*parts: str) -> str:
    """The key of a question."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def check_budget(label: str, key: str, budget: int, new: int, before: int) -> None:
    """Raise InputError where `new` questions, after those asked before, are more than `budget`."""
    if new and before + new > budget:
        counts = f"{new:,} questions are new, {before:,} were asked before"
        raise InputError(f"{label}: {counts}, {key}={budget:,}; nothing was asked")


def _wait(wanted: str | None, attempt: int) -> float:
    """Seconds until the next try: what the service asks for, else twice as long each time."""
    try:
        return min(LONGEST_WAIT, max(0.0, float(wanted or "")))
    except ValueError:
        return min(LONGEST_WAIT, 0.5 * 2.0**attempt)
