"""What a server is told: limits, batching, caching, logging. Nothing here changes an answer."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe

TEXTS = ("plain", "hashed", "none")


@dataclass(frozen=True)
class Limits(Recipe):
    """What a server accepts.

    Attributes:
        workers: threads that search: more than cores, so that queries meet in front of the encoder.
        queue: requests that may wait for one; more are refused (503 with Retry-After).
        deadline_ms: milliseconds until a request that has no answer yet is given up (504).
        rate: requests a second of each caller (API key, or address); 0 for no limit (429 above).
        burst: requests that a caller may send at once under `rate`.
        body_kb, image_mb: sizes of a request's body.
        drain_seconds: that requests in flight have when the server stops.
    """

    workers: int = setting(16, least=1)
    queue: int = setting(128, least=1)
    deadline_ms: float = setting(1_000.0, above=0)
    rate: float = setting(0.0, least=0)
    burst: int = setting(20, least=1)
    body_kb: int = setting(64, least=1)
    image_mb: int = setting(5, least=1)
    drain_seconds: float = setting(10.0, least=0)


@dataclass(frozen=True)
class Batching(Recipe):
    """Queries that are encoded together: at most `most`, of those that wait anyway.

    `wait_ms`: how long an idle encoder waits for more of them; 0 for not at all.
    """

    most: int = setting(32, least=1)
    wait_ms: float = setting(0.0, least=0, most=100)


@dataclass(frozen=True)
class Caching(Recipe):
    """Answers and query vectors that are kept.

    Attributes:
        answers: how many; 0 for none.
        megabytes: of all answers together.
        seconds: that an answer is kept, give or take a tenth.
        vectors: of queries, how many; 0 for none.
        url: of a Valkey or Redis server that keeps the answers, such as `valkey://localhost:6379`;
            None for this process.
    """

    answers: int = setting(50_000, least=0)
    megabytes: float = setting(256.0, above=0)
    seconds: float = setting(300.0, above=0)
    vectors: int = setting(50_000, least=0)
    url: str | None = None


@dataclass(frozen=True)
class Logging(Recipe):
    """The query log (UBI's queries and events, as JSON lines).

    Attributes:
        text: of queries: `plain`, `hashed` (counts and lengths stay usable) or `none`.
        flush_seconds, rows: a line is on disk after so long, or so many; what a killed server
            loses at most.
        days: that a file is kept.
        folder: of the log; None for `serving/log` in the job's folder.
    """

    text: str = setting("plain", choices=TEXTS)
    flush_seconds: float = setting(1.0, above=0)
    rows: int = setting(256, least=1)
    days: int = setting(30, least=1)
    folder: str | None = None
