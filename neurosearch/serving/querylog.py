"""The query log: UBI's queries and events as JSON lines, one file a day, for a number of days.

UBI (User Behavior Insights, o19s.com/ubi) is the schema that OpenSearch, Solr and Chorus share;
what it does not name is in `query_attributes`. Callers' ids are hashed with a salt of the day that
is deleted with it: nobody can be followed from one day to the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.serving.metrics import Metrics
from neurosearch.serving.settings import Logging

QUERIES, EVENTS = "queries", "events"
REMEMBERED = 100_000  # ids of events, which count once


class QueryLog:
    """Appends to `<folder>/queries-<day>.jsonl` and `events-<day>.jsonl`."""

    def __init__(self, folder: Path, settings: Logging, application: str, metrics: Metrics) -> None:
        self._folder, self._settings, self._application = folder, settings, application
        self._metrics = metrics
        self._lines: dict[str, list[bytes]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._day, self._salt = "", b""
        self._stopped = threading.Event()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._turn(datetime.now(UTC))
        except OSError as error:
            raise InputError(
                f"task.server.log.folder: {error.filename}: {error.strerror}"
            ) from None
        self._thread = threading.Thread(target=self._flush_often, name="log", daemon=True)
        self._thread.start()

    def query(
        self, request_id: str, text: str, client: str | None, attributes: dict[str, Any]
    ) -> None:
        """Log a search.

        Args:
            request_id: UBI's `query_id`.
            text: as typed.
            client: of the caller; None where it named none.
            attributes: system, fingerprint, hits, scores, timings.
        """
        now = datetime.now(UTC)
        hits = attributes.pop("hits", [])
        shown = {"plain": text, "hashed": hashed(text), "none": None}[self._settings.text]
        line = {
            "application": self._application,
            "query_id": request_id,
            "client_id": self._client(client, now),
            "user_query": shown,
            "timestamp": now.isoformat(timespec="milliseconds"),
            "query_response_id": request_id,
            "query_response_hit_ids": hits,
            "query_attributes": {"words": len(text.split()), **attributes},
        }
        self._append(QUERIES, line, now)

    def event(self, event: Any) -> bool:
        """Log an event.

        Args:
            event: `schemas.EventBody`.

        Returns:
            False for one that was logged before.
        """
        with self._lock:
            if event.event_id in self._seen:
                return False
            self._seen[event.event_id] = None
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        now = datetime.now(UTC)
        attributes: dict[str, Any] = {
            "object": {"object_id": event.product_id, "object_id_field": "product_id"}
        }
        if event.position is not None:
            attributes["position"] = {"ordinal": event.position}
        if event.dwell_ms is not None:
            attributes["dwell_time"] = event.dwell_ms / 1000
        line = {
            "application": self._application,
            "action_name": event.action_name,
            "query_id": event.query_id,
            "client_id": self._client(event.client_id, now),
            "timestamp": now.isoformat(timespec="milliseconds"),
            "message_id": event.event_id,
            "event_attributes": attributes,
        }
        self._append(EVENTS, line, now)
        return True

    def _append(self, name: str, line: dict[str, Any], now: datetime) -> None:
        path = f"{name}-{now:%Y-%m-%d}.jsonl"
        with self._lock:
            lines = self._lines.setdefault(path, [])
            lines.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode())
            full = len(lines) >= self._settings.rows
        if full:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered. A full disk loses lines of the log, and no search."""
        with self._writing:
            with self._lock:
                taken, self._lines = self._lines, {}
            for path, lines in taken.items():
                try:
                    with (self._folder / path).open("ab") as handle:
                        handle.write(b"\n".join(lines) + b"\n")
                except OSError as error:
                    log.error("query log: %s: %s; %d lines lost", path, error.strerror, len(lines))
                else:
                    self._metrics.logged.labels(path.partition("-")[0]).inc(len(lines))

    def _flush_often(self) -> None:
        while not self._stopped.wait(self._settings.flush_seconds):
            self.flush()

    def _client(self, client: str | None, now: datetime) -> str | None:
        if client is None:
            return None
        if f"{now:%Y-%m-%d}" != self._day:
            self._turn(now)
        return hashlib.blake2b(client.encode(), key=self._salt, digest_size=12).hexdigest()

    def _turn(self, now: datetime) -> None:
        """Begin a day: its salt, and an end to what is too old."""
        self._day = f"{now:%Y-%m-%d}"
        path = self._folder / f".salt-{self._day}"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(32))
        self._salt = path.read_bytes()
        oldest = f"{now - timedelta(days=self._settings.days):%Y-%m-%d}"
        for kept in self._folder.glob("*-????-??-??.jsonl"):
            if kept.stem[-10:] < oldest:
                kept.unlink(missing_ok=True)
        for salt in self._folder.glob(".salt-*"):
            if salt != path:
                salt.unlink(missing_ok=True)

    def close(self) -> None:
        """Write what is left."""
        self._stopped.set()
        self._thread.join()
        self.flush()


def hashed(text: str) -> str:
    """A query's text as a short hash: equal ones stay equal, case and blanks aside.

    Args:
        text: as typed.

    Returns:
        16 hex digits.
    """
    plain = " ".join(text.casefold().split())
    return hashlib.blake2b(plain.encode(), digest_size=8).hexdigest()


def new_id() -> str:
    """A request's id: 24 hex digits.

    Returns:
        A random id.
    """
    return os.urandom(12).hex()
