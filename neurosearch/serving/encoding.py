"""Live encoders behind one thread each: what waits is encoded together, what was asked is kept.

Only the encoder is batched. A window in front of the index costs more than it saves: FAISS and
Lucene answer single queries as fast as batches, and the window's wait comes on top.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np

from neurosearch.encoder.base import LiveEncoder
from neurosearch.serving.metrics import Metrics
from neurosearch.serving.settings import Batching


class Encoders:
    """Encoders by identity: systems with the same encoder share one, and its kept vectors."""

    def __init__(self, batching: Batching, vectors: int, metrics: Metrics) -> None:
        self._batching, self._vectors, self._metrics = batching, vectors, metrics
        self._open: dict[str, tuple[BatchedEncoder, int]] = {}
        self._lock = threading.Lock()

    def encoder(self, identity: str, load: Callable[[], LiveEncoder]) -> LiveEncoder:
        """The encoder of this identity, loaded by `load` where it is not there yet.

        Args:
            identity: names the vector space.
            load: gives the live encoder.

        Returns:
            An encoder that any thread may call.
        """
        with self._lock:
            if identity not in self._open:
                made = BatchedEncoder(load(), self._batching, self._vectors, self._metrics)
                self._open[identity] = (made, 0)
            found, users = self._open[identity]
            self._open[identity] = (found, users + 1)
            return found

    def scope(self) -> EncoderScope:
        """What one generation of systems asks: its encoders stay open until it is closed.

        Returns:
            An empty scope.
        """
        return EncoderScope(self)

    def release(self, identities: Iterable[str]) -> None:
        """Forget one user of each of these encoders; without users they are closed.

        Args:
            identities: as they were asked for.
        """
        with self._lock:
            for identity in identities:
                found, users = self._open[identity]
                if users > 1:
                    self._open[identity] = (found, users - 1)
                else:
                    found.close()
                    del self._open[identity]


class EncoderScope:
    """The encoders that one generation of systems has asked for."""

    def __init__(self, encoders: Encoders) -> None:
        self._encoders, self._asked = encoders, list[str]()

    def encoder(self, identity: str, load: Callable[[], LiveEncoder]) -> LiveEncoder:
        """See `Encoders.encoder`.

        Args:
            identity: names the vector space.
            load: gives the live encoder.

        Returns:
            An encoder that any thread may call.
        """
        found = self._encoders.encoder(identity, load)
        self._asked.append(identity)
        return found

    def close(self) -> None:
        """Release all of them."""
        asked, self._asked = self._asked, []
        self._encoders.release(asked)


class BatchedEncoder(LiveEncoder):
    """An encoder whose calls from any thread meet in one batch; vectors of known texts are kept."""

    def __init__(
        self, live: LiveEncoder, batching: Batching, vectors: int, metrics: Metrics
    ) -> None:
        self._live, self._batching, self._most, self._metrics = live, batching, vectors, metrics
        self.dimensions = live.dimensions
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[list[str], Future[np.ndarray]] | None]
        self._waiting = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="encoder", daemon=True)
        self._thread.start()

    def for_products(self) -> LiveEncoder:
        return self._live.for_products()

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return self._live.lengths(texts)

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        return map(self.encode, collections)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        found = {text: vector for text in texts if (vector := self._known(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for outcome, count in (("hit", len(found)), ("miss", len(missing))):
            if count:
                self._metrics.cache.labels("vectors", outcome).inc(count)
        if missing:
            asked: Future[np.ndarray] = Future()
            self._waiting.put((missing, asked))
            found |= dict(zip(missing, asked.result(), strict=True))
            self._keep(missing, found)
        return np.stack([found[text] for text in texts])

    def _known(self, text: str) -> np.ndarray | None:
        with self._lock:
            vector = self._kept.get(text)
            if vector is not None:
                self._kept.move_to_end(text)
            return vector

    def _keep(self, texts: list[str], vectors: dict[str, np.ndarray]) -> None:
        with self._lock:
            for text in texts:
                self._kept[text] = vectors[text]
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def _serve(self) -> None:
        """Encode what waits, as long as the encoder is open."""
        while (first := self._waiting.get()) is not None:
            batch, ends = self._gathered(first)
            texts = [text for some, _ in batch for text in some]
            self._metrics.batch.observe(len(texts))
            try:
                vectors = self._live.encode(texts)
            except BaseException as error:
                for _, asked in batch:
                    asked.set_exception(error)
            else:
                start = 0
                for some, asked in batch:
                    asked.set_result(vectors[start : start + len(some)])
                    start += len(some)
            if ends:
                return

    def _gathered(
        self, first: tuple[list[str], Future[np.ndarray]]
    ) -> tuple[list[tuple[list[str], Future[np.ndarray]]], bool]:
        """What waits, up to a batch, and whether the encoder is being closed."""
        batch, size = [first], len(first[0])
        while size < self._batching.most:
            try:
                wait = self._batching.wait_ms / 1000
                item = self._waiting.get(timeout=wait) if wait else self._waiting.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
            size += len(item[0])
        return batch, False

    def close(self) -> None:
        """End the thread, after what waits."""
        self._waiting.put(None)
        self._thread.join()
