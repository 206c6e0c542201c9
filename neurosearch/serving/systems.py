"""A mounted system: its live searcher and explanations, its products, and what it is made of."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.digests import digest
from neurosearch.core.errors import InputError
from neurosearch.core.query import Note
from neurosearch.core.recipe import describe
from neurosearch.core.retrieval import RetrievalRequest, Retriever, Searcher
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.explainer.base import Explain, Explanation, Scene
from neurosearch.explainer.extractive import explaining
from neurosearch.retriever.dense import Dense
from neurosearch.serving.pictures import PictureSearcher, vision_of
from neurosearch.serving.problems import RefusedError
from neurosearch.serving.products import Products

CANARIES = 20  # queries that a system answers before it is put in place


@dataclass(frozen=True)
class Composed:
    """A system before it is opened.

    Attributes:
        retriever: the recipe.
        data: built, or to be built.
        request: as the table asked it; its query processing is fitted.
        runtime: of its own, so that its store loads anew.
    """

    retriever: Retriever
    data: Artifact[Dataset]
    request: RetrievalRequest
    runtime: Runtime

    @cached_property
    def artifacts(self) -> list[Artifact[Any]]:
        """What answering needs."""
        return [view.products(self.data), *self.retriever.serving(self.data, self.request)]

    @property
    def fingerprint(self) -> str:
        """Changes with whatever may change an answer."""
        parts = [describe(self.retriever), describe(self.request)]
        return digest([*parts, *(artifact.address for artifact in self.artifacts)])

    def missing(self) -> list[str]:
        """Artifacts that are not built."""
        store = self.runtime.store
        gone = [a for a in self.artifacts if store.manifest(a) is None]
        return [f"{a.stored().kind} {a.stored().artifact_fingerprint[:8]}" for a in gone]


# Overrides by system, to the systems by name as they are configured and lie on disk now.
Compose = Callable[[Mapping[str, list[str]]], dict[str, Composed]]


class System:
    """An open system. Any thread may search it."""

    def __init__(
        self,
        name: str,
        composed: Composed,
        live: Searcher | None,
        by_picture: PictureSearcher | None,
    ) -> None:
        self.name, self.label = name, composed.retriever.label()
        self.fingerprint = composed.fingerprint
        self.depth = composed.request.depth
        self._live, self.by_picture = live, by_picture
        runtime = composed.runtime
        self.dataset = runtime.get(composed.data)
        self.products = Products(self.dataset.catalogue)
        self._composed, self._reader = composed, composed.request.query.reader(runtime)
        self._explain: Explain | None = None
        self._lock = threading.Lock()
        manifests = [runtime.store.manifest(a) for a in composed.artifacts]
        times = [datetime.fromisoformat(m["created"]).timestamp() for m in manifests if m]
        self.built = max(times, default=0.0)
        self.artifacts = runtime.store.events
        self.addresses = [artifact.stored().address for artifact in composed.artifacts]

    @property
    def live(self) -> Searcher:
        """The searcher of words.

        Raises:
            RefusedError: the system reads pictures alone.
        """
        if self._live is None:
            raise RefusedError(422, "this system reads pictures; send one to /v1/search/image")
        return self._live

    def notes(self, text: str) -> tuple[Note, ...]:
        """What each step of the query processing did to a typed query.

        Args:
            text: as typed.

        Returns:
            The steps that have something to say.
        """
        return self._reader.read([text])[0].notes

    def explain(self, text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        """Why products have their scores; what explaining needs is loaded at the first call.

        Args:
            text: of the query, as typed.
            rows, scores: of the products.

        Returns:
            One explanation a product.
        """
        with self._lock:
            if self._explain is None:
                made = self._composed
                scene = Scene(made.data, made.request, made.runtime)
                self._explain = explaining(made.retriever, self.live, scene)
            return self._explain(text, rows, scores)

    def canaries(self) -> list[str]:
        """Query texts of the data set, for trying the system before it is put in place.

        Returns:
            At most CANARIES texts.
        """
        queries = self.dataset.queries(self._composed.request.split)
        return queries.texts[:CANARIES]

    def check(self) -> None:
        """Answer the canaries; the first searches also load what is loaded lazily.

        Raises:
            InputError: there are no answers at all.
        """
        if self._live is None:
            return
        texts = self.canaries()
        found = sum(bool((self.live.search([text], 10)[0] >= 0).any()) for text in texts)
        if texts and not found:
            raise InputError(f"{self.name}: none of {len(texts)} queries finds a product")


@contextmanager
def opened(name: str, composed: Composed, builds: bool) -> Iterator[System]:
    """Open a system.

    Args:
        name: under which it is mounted.
        composed: the system.
        builds: build what is not there; else refuse.

    Returns:
        A context that yields the system, and frees what it holds at its end.

    Raises:
        InputError: it has no live searcher, or is not built.
    """
    retriever, vision = composed.retriever, vision_of(composed.retriever)
    if not retriever.is_live and vision is None:
        raise InputError(f"{name}: {retriever.label()} has no live searcher")
    store = composed.runtime.store
    if not builds:
        missing = composed.missing()
        if missing:
            raise InputError(f"{name}: not built: {', '.join(missing)}; run its table first")
    for artifact in composed.artifacts:
        store.ensure(artifact)
    parts = composed.data, composed.request, composed.runtime
    with ExitStack() as stack:
        live = stack.enter_context(retriever.searcher(*parts)) if retriever.is_live else None
        by_picture = None
        if vision is not None:
            assert isinstance(retriever, Dense)
            by_picture = PictureSearcher(retriever, vision, composed.data, composed.runtime)
        system = System(name, composed, live, by_picture)
        system.check()
        store.builds = False  # a request never builds
        yield system


class Generation:
    """Systems that are served together, and the requests that use them.

    Attributes:
        systems: by name; the first one answers requests that name none.
    """

    def __init__(self, systems: dict[str, System], stack: ExitStack) -> None:
        self.systems = systems
        self._stack, self._users, self._retired = stack, 0, False
        self._lock = threading.Lock()

    @classmethod
    def open(cls, composed: dict[str, Composed], encoders: Any, builds: bool) -> Generation:
        """Open systems.

        Args:
            composed: by name.
            encoders: what gives live encoders (`encoding.EncoderScope`); closed with them.
            builds: build what is not there; else refuse.

        Returns:
            The generation.

        Raises:
            InputError: a system can't be opened; those before it are closed.
        """
        with ExitStack() as stack:
            stack.callback(encoders.close)
            systems = {}
            for name, one in composed.items():
                runtime = dataclasses.replace(one.runtime, encoders=encoders)
                own = dataclasses.replace(one, runtime=runtime)
                systems[name] = stack.enter_context(opened(name, own, builds))
            return cls(systems, stack.pop_all())

    def enter(self) -> None:
        """A request begins to use it."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """A request has ended; the last one closes a retired generation."""
        with self._lock:
            self._users -= 1
            closes = self._retired and self._users == 0
        if closes:
            self._stack.close()

    def retire(self) -> None:
        """Close it once no request uses it."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
            closes = self._users == 0
        if closes:
            self._stack.close()

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of each system."""
        return {name: system.fingerprint for name, system in self.systems.items()}


class Generations:
    """What is served, and what was served before it, for rolling back."""

    def __init__(self, first: Generation) -> None:
        self.current: Generation = first
        self.previous: Generation | None = None
        self._lock = threading.Lock()

    @contextmanager
    def used(self) -> Iterator[Generation]:
        """The current generation, which is not closed while it is used.

        Returns:
            A context that yields it.
        """
        with self._lock:
            generation = self.current
            generation.enter()
        try:
            yield generation
        finally:
            generation.leave()

    def swap(self, new: Generation) -> None:
        """Serve another generation from now on; the one before the last is retired.

        Args:
            new: open and checked.
        """
        with self._lock:
            gone, self.previous, self.current = self.previous, self.current, new
        if gone is not None:
            gone.retire()

    def roll_back(self) -> bool:
        """Serve the previous generation again.

        Returns:
            False where there is none.
        """
        with self._lock:
            if self.previous is None:
                return False
            self.previous, self.current = self.current, self.previous
            return True

    def close(self) -> None:
        """Retire both."""
        for generation in (self.current, self.previous):
            if generation is not None:
                generation.retire()


def checked_names(names: Sequence[str]) -> None:
    """Raise InputError for names of systems that are no words.

    Args:
        names: of systems.
    """
    for name in names:
        if not name.replace("_", "").replace("-", "").isalnum() or len(name) > 40:
            raise InputError(f"task.systems: {name!r} must be letters, digits, - and _, at most 40")
