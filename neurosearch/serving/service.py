"""What the routes share: everything live, and how a search is answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.core.filters import Range
from neurosearch.serving import tracing
from neurosearch.serving.access import Keys
from neurosearch.serving.answers import Asked, answered, key_of, mixed_answer
from neurosearch.serving.cache import Cache, CacheError, Flights, Kept
from neurosearch.serving.cursors import Cursors
from neurosearch.serving.encoding import Encoders
from neurosearch.serving.metrics import Metrics
from neurosearch.serving.pool import Pool
from neurosearch.serving.problems import RefusedError, told
from neurosearch.serving.querylog import QueryLog
from neurosearch.serving.schemas import SearchBody, Span
from neurosearch.serving.settings import Limits
from neurosearch.serving.systems import Compose, Generation, Generations, System
from neurosearch.trial.served import ServedTrial

DEEPEST = 1_000  # products that pages may reach


@dataclass
class Service:
    """What the routes share.

    Attributes:
        compose: the systems anew, some with other overrides: what a reload serves.
        ready: False until the server is warm, and from the first sign of its end.
        trial: on the callers, or None.
        on_swap: is told of what is served from now on, such as to keep it from being pruned.
    """

    generations: Generations
    pool: Pool
    cache: Cache
    encoders: Encoders
    cursors: Cursors
    log: QueryLog
    metrics: Metrics
    limits: Limits
    keys: Keys
    admin: Keys
    compose: Compose
    title: str
    on_swap: Callable[[Generation], None] = lambda generation: None
    trial: ServedTrial | None = None
    ready: bool = False
    flights: Flights = field(default_factory=Flights)
    swapping: threading.Lock = field(default_factory=threading.Lock)

    def system(self, generation: Generation, name: str | None) -> System:
        """A mounted system.

        Args:
            generation: that is served.
            name: None for the first one.

        Returns:
            The system.

        Raises:
            RefusedError: there is none of this name.
        """
        if name is None:
            return next(iter(generation.systems.values()))
        if name not in generation.systems:
            known = ", ".join(generation.systems)
            raise RefusedError(404, f"no system of this name is served; there are {known}")
        return generation.systems[name]

    async def working(self, generation: Generation, work: Callable[[], Any]) -> Any:
        """Do work of a generation in the pool; the generation stays open until it has ended.

        Args:
            generation: whose systems the work uses.
            work: what to do.

        Returns:
            Its answer.
        """
        generation.enter()
        return await self.pool.run(work, generation.leave)

    async def search(self, body: SearchBody, request_id: str) -> bytes:
        """Answer a search: from the cache, or by searching, and log it.

        Args:
            body: the request.
            request_id: of the answer and the log.

        Returns:
            JSON of a `SearchAnswer`.
        """
        with self.generations.used() as generation:
            trial, told = self.trial, dict[str, Any]()
            name = body.system
            if trial is not None and name is None and body.client_id is not None:
                names = trial.names(generation.systems)
                number = trial.arm_of(body.client_id)
                told = trial.facts(names) | {"arm": None if number < 0 else names[number]}
                if trial.kind == "interleaving" and number >= 0:
                    return await self._mixed(generation, trial, names, body, request_id)
                name = names[max(number, 0)]
            system = self.system(generation, name)
            asked = asked_of(body)
            if body.cursor is not None:
                described = asked.described()
                offset = self.cursors.read(body.cursor, system.fingerprint, described)
                asked = replace(asked, offset=offset)
            if asked.offset + asked.k > DEEPEST:
                raise RefusedError(400, f"pages end at product {DEEPEST}")
            kept, outcome = await self.found(generation, system, asked)
            self._log(system, asked, body.client_id, request_id, kept, outcome, told)
            return self.whole(system, asked, kept, request_id, outcome)

    async def _mixed(
        self,
        generation: Generation,
        trial: ServedTrial,
        names: tuple[str, str],
        body: SearchBody,
        request_id: str,
    ) -> bytes:
        """Both systems' results in one list."""
        if body.cursor is not None:
            raise RefusedError(400, "an answer of two systems has one page")
        asked, client = asked_of(body), str(body.client_id)
        systems = [self.system(generation, name) for name in names]
        found = [await self.found(generation, system, asked) for system in systems]
        kept = [one for one, _ in found]
        lists = [one.facts["hits"] for one in kept]
        shown, credits = trial.mixed(client, asked.text, lists[0], lists[1], asked.k)
        whole = mixed_answer((kept[0].body, kept[1].body), shown)
        facts = {**kept[0].facts, "hits": shown, "more": False}
        facts["stages"] = {
            f"{name}: {stage}": value
            for name, one in zip(names, kept, strict=True)
            for stage, value in one.facts["stages"].items()
        }
        outcome = "miss" if any(one == "miss" for _, one in found) else "hit"
        told = trial.facts(names) | {"arm": "interleaved", "credits": credits}
        mixed = Kept(whole, facts)
        self._log(systems[0], asked, client, request_id, mixed, outcome, told)
        return self.whole(systems[0], asked, mixed, request_id, outcome)

    async def found(self, generation: Generation, system: System, asked: Asked) -> tuple[Kept, str]:
        """The answer, from the cache or by searching.

        Args:
            generation: that is used.
            system: of the generation.
            asked: the request.

        Returns:
            The answer, and what gave it: `hit` (the cache), `miss` (this search), `shared`
            (another one's).
        """
        key = key_of(system, asked)
        outcome = "hit"
        try:
            kept = await self.cache.get(key)
        except CacheError:
            kept = None
            self.metrics.cache.labels("answers", "error").inc()
        if kept is None:

            async def search() -> Kept:
                found: Kept = await self.working(generation, lambda: answered(system, asked))
                await self.cache.put(key, found)
                return found

            kept, shared = await self.flights.of(key, search)
            outcome = "shared" if shared else "miss"
        self.metrics.cache.labels("answers", outcome).inc()
        if outcome == "miss":
            tracing.stages(kept.facts["stages"])
            for name, milliseconds in kept.facts["stages"].items():
                self.metrics.stages.labels(system.name, name).observe(milliseconds / 1000)
        if not kept.facts["hits"]:
            self.metrics.empty.labels(system.name).inc()
        return kept, outcome

    def whole(
        self, system: System, asked: Asked, kept: Kept, request_id: str, outcome: str
    ) -> bytes:
        """An answer with what is this request's own.

        Args:
            system: that answered.
            asked: the request.
            kept: the answer.
            request_id: of the request.
            outcome: see `found`.

        Returns:
            JSON of a `SearchAnswer`.
        """
        cursor = None
        after = asked.offset + asked.k
        if kept.facts["more"] and after + asked.k <= DEEPEST:
            cursor = self.cursors.sign(system.fingerprint, asked.described(), after)
        rest = {
            "next_cursor": cursor,
            "request_id": request_id,
            "cached": outcome != "miss",
            "timings_ms": kept.facts["stages"] if outcome == "miss" else {},
        }
        return kept.body + b"," + json.dumps(rest).encode()[1:]

    def _log(
        self,
        system: System,
        asked: Asked,
        client: str | None,
        request_id: str,
        kept: Kept,
        outcome: str,
        told: dict[str, Any],
    ) -> None:
        facts = kept.facts
        attributes = {
            "hits": facts["hits"],
            "system": system.name,
            "fingerprint": system.fingerprint,
            "filters": sorted(asked.filters or {}),
            "k": asked.k,
            "offset": asked.offset,
            "top_score": facts["top_score"],
            "category": facts["category"],
            "cache": outcome,
            "stages_ms": facts["stages"] if outcome == "miss" else {},
            **told,
        }
        self.log.query(request_id, asked.text, client, attributes)

    def reload(self, overrides: dict[str, list[str]]) -> dict[str, str]:
        """Open the systems anew beside what is served, try them, and serve them.

        Args:
            overrides: by system; empty for the same configuration over what lies on disk now.

        Returns:
            Fingerprints by system.

        Raises:
            RefusedError: it can't be opened, or another reload is under way; nothing changed.
        """
        if not self.swapping.acquire(blocking=False):
            raise RefusedError(409, "another reload is under way")
        try:
            composed = self.compose(overrides)
            new = Generation.open(composed, self.encoders.scope(), builds=False)
        except InputError as error:
            raise told(error) from None
        finally:
            self.swapping.release()
        self.generations.swap(new)
        self.swapped("reload")
        return new.fingerprints

    def roll_back(self) -> dict[str, str]:
        """Serve what was served before.

        Returns:
            Fingerprints by system.

        Raises:
            RefusedError: nothing was served before.
        """
        if not self.generations.roll_back():
            raise RefusedError(409, "nothing was served before this")
        self.swapped("rollback")
        return self.generations.current.fingerprints

    def swapped(self, kind: str) -> None:
        """Tell the metrics and the record what is served from now on.

        Args:
            kind: of the change, such as `reload`.
        """
        current = self.generations.current
        self.metrics.swaps.labels(kind).inc()
        self.metrics.serve({n: (s.fingerprint, s.built) for n, s in current.systems.items()})
        self.on_swap(current)


def asked_of(body: SearchBody) -> Asked:
    """What a request's body asks.

    Args:
        body: the request.

    Returns:
        The question, from the first product on.
    """
    filters = {
        name: Range(wanted.least, wanted.most) if isinstance(wanted, Span) else wanted
        for name, wanted in body.filters.items()
    }
    return Asked(body.query, body.k, 0, filters, tuple(body.facets), body.explain)
