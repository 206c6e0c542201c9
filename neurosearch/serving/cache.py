"""Kept answers. The key holds the fingerprint of what is served: a new index never serves old ones.

Expiry is spread by a tenth, so that answers which came together do not expire together. Of equal
requests that miss at the same time one searches, and the others wait for it (`Flights`).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.serving.settings import Caching

TELL_AGAIN = 60.0  # seconds until a fault of the cache is logged again


class CacheError(Exception):
    """The cache does not answer; the search goes on."""


@dataclass(frozen=True)
class Kept:
    """An answer: JSON without its last brace, and what the log says of it."""

    body: bytes
    facts: dict[str, Any]


class Cache(Protocol):
    """Keeps answers by key."""

    async def get(self, key: str) -> Kept | None:
        """The answer, or None.

        Args:
            key: see `answers.key_of`.
        """

    async def put(self, key: str, kept: Kept) -> None:
        """Keep an answer.

        Args:
            key: see `answers.key_of`.
            kept: the answer.
        """

    async def close(self) -> None:
        """Free what it holds."""


class InProcess:
    """The least recently used answers go first, above a number or a size."""

    def __init__(
        self, settings: Caching, clock: Callable[[], float] = time.monotonic, seed: int = 0
    ) -> None:
        self._settings, self._clock, self._random = settings, clock, random.Random(seed)
        self._kept: OrderedDict[str, tuple[Kept, float]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: str) -> Kept | None:
        found = self._kept.get(key)
        if found is None:
            return None
        kept, expires = found
        if self._clock() >= expires:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    async def put(self, key: str, kept: Kept) -> None:
        if self._settings.answers == 0:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = kept, self._clock() + spread(self._settings.seconds, self._random)
        self.bytes += len(kept.body)
        while (
            len(self._kept) > self._settings.answers or self.bytes > self._settings.megabytes * 1e6
        ):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        kept, _ = self._kept.pop(key)
        self.bytes -= len(kept.body)

    async def close(self) -> None:
        self._kept.clear()


class Valkey:
    """Answers in a Valkey or Redis server, shared by processes; without it, searches go on."""

    def __init__(self, settings: Caching) -> None:
        try:
            from valkey.asyncio import Valkey as Client
        except ImportError:
            raise InputError(
                "task.cache.url needs the package valkey: pip install valkey"
            ) from None
        assert settings.url is not None
        try:
            self._client = Client.from_url(
                settings.url, socket_timeout=0.25, socket_connect_timeout=0.25
            )
        except ValueError as error:
            raise InputError(f"task.server.cache.url={settings.url!r}: {error}") from None
        self._settings, self._random = settings, random.Random()
        self._told = -TELL_AGAIN

    async def get(self, key: str) -> Kept | None:
        from valkey.exceptions import ValkeyError

        try:
            found = await self._client.get(f"neurosearch:{key}")
        except (ValkeyError, OSError) as error:
            self._tell(error)
            raise CacheError from None
        if found is None:
            return None
        facts, _, body = found.partition(b"\n")
        return Kept(body, json.loads(facts))

    async def put(self, key: str, kept: Kept) -> None:
        from valkey.exceptions import ValkeyError

        seconds = spread(self._settings.seconds, self._random)
        content = json.dumps(kept.facts).encode() + b"\n" + kept.body
        try:
            await self._client.set(f"neurosearch:{key}", content, px=int(1000 * seconds))
        except (ValkeyError, OSError) as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Log a fault, once in a while."""
        now = time.monotonic()
        if now - self._told >= TELL_AGAIN:
            self._told = now
            log.error("the cache of answers: %s; searches go on without it", error)

    async def close(self) -> None:
        await self._client.aclose()


def spread(seconds: float, draws: random.Random) -> float:
    """A time, give or take a tenth.

    Args:
        seconds: in the middle.
        draws: of random numbers.

    Returns:
        Seconds.
    """
    return seconds * draws.uniform(0.9, 1.1)


def opened(settings: Caching) -> Cache:
    """The cache that is asked for.

    Args:
        settings: of the server.

    Returns:
        In this process, or in another server's.
    """
    return InProcess(settings) if settings.url is None else Valkey(settings)


class Flights:
    """One search for equal requests that miss at the same time."""

    def __init__(self) -> None:
        self._flying: dict[str, asyncio.Future[Kept]] = {}

    async def of(self, key: str, search: Callable[[], Awaitable[Kept]]) -> tuple[Kept, bool]:
        """The answer, searched for by the first that asks.

        Args:
            key: of the request.
            search: gives the answer.

        Returns:
            The answer, and whether another request's search gave it. An error is everybody's.
        """
        flying = self._flying.get(key)
        if flying is not None:
            return await asyncio.shield(flying), True
        future: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._flying[key] = future
        try:
            kept = await search()
        except BaseException as error:
            shown = error if isinstance(error, Exception) else RuntimeError("cancelled")
            future.set_exception(shown)
            future.exception()  # retrieved: nobody else may be waiting
            raise
        else:
            future.set_result(kept)
            return kept, False
        finally:
            del self._flying[key]
