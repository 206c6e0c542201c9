"""An open-loop load: requests come when a Poisson process says so, however long the answers take.

Latency counts from the moment at which a request should have been sent. A client that waits for an
answer before it asks again (a closed loop) asks less of a server that stalls, and so hides the
stall ("coordinated omission", Tene 2013).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import numpy as np

FAILED = 0  # the status of a request whose connection broke
GONE = 1  # of one whose caller gave up before it could be sent
ZIPF = 1.0  # exponent of the queries' popularity


@dataclass(frozen=True)
class Observed:
    """What became of N requests.

    Attributes:
        seconds: from each one's scheduled time to its answer (float64).
        status: of HTTP (int64); FAILED where the connection broke.
        rate: requests a second that were scheduled.
        lasted: seconds from the first scheduled time to the last answer.
    """

    seconds: np.ndarray
    status: np.ndarray
    rate: float
    lasted: float

    @property
    def answered(self) -> np.ndarray:
        """Seconds of the requests that were answered with 200."""
        good: np.ndarray = self.seconds[self.status == 200]
        return good

    def summary(self) -> dict[str, float]:
        """Rates, percentiles and shares.

        Returns:
            By name; milliseconds of the answered requests alone, NaN where there are none.
        """
        good = 1000 * self.answered
        points = np.percentile(good, [50, 95, 99]) if len(good) else [float("nan")] * 3
        total = max(1, len(self.status))
        shed = np.isin(self.status, (429, 503)).sum()
        late = np.isin(self.status, (504, GONE)).sum()
        errors = ((self.status >= 500) & ~np.isin(self.status, (503, 504))).sum()
        return {
            "rate": self.rate,
            "answered/s": len(good) / self.lasted if self.lasted else 0.0,
            **dict(zip(("p50 ms", "p95 ms", "p99 ms"), map(float, points), strict=True)),
            "shed %": 100 * float(shed) / total,
            "late %": 100 * float(late) / total,
            "errors": float(errors + (self.status == FAILED).sum()),
        }


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection that is kept: a request at a time, its status when it is answered."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = cast(asyncio.Transport, transport), True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        self._done(FAILED)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request.

        Args:
            request: head and body.

        Returns:
            A future of the status.
        """
        assert self._transport is not None
        self._buffer = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length:
            if b"connection: close" in lower:
                self.close()
            self._done(int(head[9:12]))

    def _done(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    def close(self) -> None:
        """Close it."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


def posted(url: str, body: object, key: str = "") -> bytes:
    """A POST request of JSON, as bytes.

    Args:
        url: of the endpoint.
        body: JSON-able.
        key: an API key; empty for none.

    Returns:
        Head and body.
    """
    parts, content = urlsplit(url), json.dumps(body).encode()
    head = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    head += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    head += [f"X-API-Key: {key}"] if key else []
    return "\r\n".join([*head, "", ""]).encode() + content


def host_and_port(url: str) -> tuple[str, int]:
    """Where a URL's server listens.

    Args:
        url: with a host.

    Returns:
        Host and port.
    """
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def popular(count: int, total: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of queries by Zipf's law: the n-th most popular one has weight 1/n.

    Args:
        count: of the draws.
        total: of the queries.
        rng: of the draws; it also says which query is how popular.

    Returns:
        `count` numbers of queries.
    """
    weights = 1.0 / np.arange(1, total + 1) ** ZIPF
    drawn = rng.choice(total, size=count, p=weights / weights.sum())
    return rng.permutation(total)[drawn]


async def offered(
    url: str,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    rng: np.random.Generator,
    connections: int = 512,
    patience: float = 2.0,
) -> Observed:
    """Offer a load.

    Args:
        url: of the server.
        requests: one of which is drawn for each moment (`popular`).
        rate: requests a second, on average.
        seconds: for which requests are scheduled.
        rng: of moments and requests.
        connections: open at most; a request that finds none waits, and its wait counts.
        patience: seconds that a request waits for a connection before its caller gives up
            (status GONE).

    Returns:
        What became of them.

    Raises:
        OSError: nothing listens there.
    """
    gaps = rng.exponential(1 / rate, size=int(rate * seconds * 1.5) + 20)
    times = np.cumsum(gaps)
    times = times[times < seconds]
    chosen = popular(len(times), len(requests), rng)
    taken, status = np.full(len(times), np.nan), np.full(len(times), FAILED)
    loop, where = asyncio.get_running_loop(), host_and_port(url)
    idle: deque[Connection] = deque()
    room = asyncio.Semaphore(connections)

    async def one(number: int, due: float) -> None:
        async with room:
            if loop.time() - due > patience:
                taken[number], status[number] = loop.time() - due, GONE
                return
            while idle and not idle[-1].is_open:
                idle.pop()
            try:
                if idle:
                    connection = idle.pop()
                else:
                    _, connection = await loop.create_connection(Connection, *where)
                status[number] = await connection.ask(requests[chosen[number]])
            except OSError:
                status[number] = FAILED
            else:
                idle.append(connection)
            taken[number] = loop.time() - due

    _, first = await loop.create_connection(Connection, *where)
    idle.append(first)
    begun = loop.time()
    running = set()
    for number, moment in enumerate(times):
        wait = begun + moment - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(number, begun + moment))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)
    lasted = loop.time() - begun - (times[0] if len(times) else 0.0)
    for connection in idle:
        connection.close()
    return Observed(taken, status, rate, float(lasted))


async def closed(url: str, requests: Sequence[bytes], seconds: float, callers: int) -> float:
    """Requests a second that callers get who ask again as soon as they are answered: the capacity.

    Args:
        url: of the server.
        requests: asked in turn.
        seconds: of the measurement.
        callers: at a time.

    Returns:
        Answers (200) a second.
    """
    loop, where = asyncio.get_running_loop(), host_and_port(url)
    end, answers, number = loop.time() + seconds, 0, 0

    async def caller() -> None:
        nonlocal answers, number
        _, connection = await loop.create_connection(Connection, *where)
        while loop.time() < end and connection.is_open:
            number += 1
            status = await connection.ask(requests[number % len(requests)])
            answers += status == 200
        connection.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answers / seconds
