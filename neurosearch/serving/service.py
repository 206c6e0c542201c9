"""The HTTP service: routes from requests to answers. Everything live is held by a `Service`."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from neurosearch.core.errors import InputError
from neurosearch.serving import tracing
from neurosearch.serving.access import Keys
from neurosearch.serving.answers import Asked, answered, key_of
from neurosearch.serving.cache import Cache, CacheError, Flights, Kept
from neurosearch.serving.cursors import Cursors
from neurosearch.serving.encoding import Encoders
from neurosearch.serving.guard import Guard
from neurosearch.serving.metrics import Metrics
from neurosearch.serving.pictures import picture_answer, readable
from neurosearch.serving.pool import Pool
from neurosearch.serving.problems import TITLES, RefusedError, handle_problems, told
from neurosearch.serving.products import Range
from neurosearch.serving.querylog import QueryLog
from neurosearch.serving.schemas import (
    BatchAnswer,
    BatchBody,
    EventBody,
    ExplainBody,
    Problem,
    ReloadBody,
    SearchAnswer,
    SearchBody,
    Span,
)
from neurosearch.serving.settings import Limits
from neurosearch.serving.systems import Composed, Generation, Generations, System

PAGE = Path(__file__).with_name("page")
DEEPEST = 1_000  # products that pages may reach
Compose = Callable[[dict[str, list[str]]], dict[str, Composed]]


@dataclass
class Service:
    """What the routes share.

    Attributes:
        compose: the systems anew, some with other overrides: what a reload serves.
        ready: False until the server is warm, and from the first sign of its end.
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
        generation = self.generations.take()
        try:
            system = self.system(generation, body.system)
            asked = asked_of(body)
            if body.cursor is not None:
                described = asked.described()
                offset = self.cursors.read(body.cursor, system.fingerprint, described)
                asked = Asked(**{**vars(asked), "offset": offset})
            if asked.offset + asked.k > DEEPEST:
                raise RefusedError(400, f"pages end at product {DEEPEST}")
            kept, outcome = await self._found(generation, system, asked)
            self._log(system, asked, body.client_id, request_id, kept, outcome)
            return self._whole(system, asked, kept, request_id, outcome)
        finally:
            generation.leave()

    async def similar(
        self, generation: Generation, asked: Asked, name: str, request_id: str
    ) -> bytes:
        """Products that a system finds for a product's title.

        Args:
            generation: that is served.
            asked: with the title as its text.
            name: of the system.
            request_id: of the answer.

        Returns:
            JSON of a `SearchAnswer`.
        """
        system = self.system(generation, name)
        kept, outcome = await self._found(generation, system, asked)
        return self._whole(system, asked, kept, request_id, outcome)

    async def _found(
        self, generation: Generation, system: System, asked: Asked
    ) -> tuple[Kept, str]:
        """The answer, and whether the cache, this search or another one's gave it."""
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

    def _whole(
        self, system: System, asked: Asked, kept: Kept, request_id: str, outcome: str
    ) -> bytes:
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
        self._swapped("reload")
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
        self._swapped("rollback")
        return self.generations.current.fingerprints

    def _swapped(self, kind: str) -> None:
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


def application(service: Service) -> Guard:
    """The ASGI application.

    Args:
        service: what it answers with.

    Returns:
        The application behind its guard.
    """

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        service._swapped("start")
        service.ready = True
        yield
        service.ready = False
        await asyncio.to_thread(service.pool.close)
        service.generations.close()
        await service.cache.close()
        service.log.close()

    problems: dict[int | str, dict[str, Any]]
    problems = {status: {"model": Problem} for status in TITLES if status not in (405, 500)}
    app = FastAPI(
        title=service.title,
        version="1",
        lifespan=alive,
        docs_url=None,  # which would load its scripts from elsewhere: see /docs below
        redoc_url=None,
        responses=problems,
        max_body_size=1024 * service.limits.body_kb,
        telemetry={"logs": False, "operation_spans": False},
    )
    app.state.service = service
    handle_problems(app)
    _searching(app, service)
    _looking(app, service)
    _running(app, service)
    return Guard(app, service.keys, service.admin, service.limits, service.metrics)


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _searching(app: FastAPI, service: Service) -> None:
    @app.post("/v1/search", response_model=SearchAnswer)
    async def search(body: SearchBody, request: Request) -> Response:
        """The best products for a query."""
        return _json(await service.search(body, request.state.request_id))

    @app.post("/v1/search/batch", response_model=BatchAnswer)
    async def batch(body: BatchBody, request: Request) -> Response:
        """Several searches; the first that fails fails all of them."""
        first = request.state.request_id
        asked = enumerate(body.requests)
        answers = [service.search(one, f"{first}-{number}") for number, one in asked]
        whole = b",".join(await asyncio.gather(*answers))
        return _json(b'{"answers":[' + whole + b"]}")

    @app.get("/v1/similar/{product_id}", response_model=SearchAnswer)
    async def similar(
        product_id: str, request: Request, k: int = 10, system: str | None = None
    ) -> Response:
        """Products that the system finds for this one's title."""
        if not 1 <= k <= 100:
            raise RefusedError(422, "k must be from 1 to 100")
        generation = service.generations.take()
        try:
            found = service.system(generation, system)
            row = _row(found, product_id)
            title = found.products.shown(np.array([row]))[0].get("title", "")
            if not title.strip():
                raise RefusedError(404, "this product has no title")
            asked = Asked(title, k, excluded=product_id)
            request_id = request.state.request_id
            return _json(await service.similar(generation, asked, found.name, request_id))
        finally:
            generation.leave()

    @app.post("/v1/search/image", response_model=SearchAnswer)
    async def by_picture(request: Request, k: int = 10, system: str | None = None) -> Response:
        """The products whose pictures resemble the one that is sent as the body (PNG or JPEG)."""
        if not 1 <= k <= 100:
            raise RefusedError(422, "k must be from 1 to 100")
        content = await request.body()
        picture = readable(content, service.limits.image_mb)
        generation = service.generations.take()
        try:
            found = service.system(generation, system)
            kept = await service.working(generation, lambda: picture_answer(found, picture, k))
            asked, request_id = Asked("picture", k), request.state.request_id
            return _json(service._whole(found, asked, kept, request_id, "miss"))
        finally:
            generation.leave()

    by_picture_route = app.router.routes[-1]
    by_picture_route.max_body_size = 1_000_000 * service.limits.image_mb  # type: ignore[attr-defined]


def _row(system: System, product_id: str) -> int:
    row = system.products.rows.get(product_id)
    if row is None:
        raise RefusedError(404, "no product has this id")
    return row


def _looking(app: FastAPI, service: Service) -> None:
    @app.post("/v1/explain")
    async def explain(body: ExplainBody) -> dict[str, Any]:
        """Why a product has its place for a query, in parts that add up to its score."""
        generation = service.generations.take()
        try:
            system = service.system(generation, body.system)
            row = _row(system, body.product_id)

            def work() -> dict[str, Any] | None:
                rows, scores = (a[0] for a in system.live.search([body.query], system.depth))
                (places,) = np.nonzero(rows == row)
                if not len(places):
                    return None
                (why,) = system.explain(body.query, rows[places], scores[places])
                return {"rank": int(places[0]) + 1, "product_id": body.product_id, **why.as_json()}

            found: dict[str, Any] | None = await service.working(generation, work)
        finally:
            generation.leave()
        if found is None:
            raise RefusedError(404, f"this product is not among the first {system.depth}")
        return found

    @app.get("/v1/products/{product_id}/image")
    async def image(product_id: str, system: str | None = None) -> Response:
        """A product's picture."""
        generation = service.generations.take()
        try:
            found = service.system(generation, system)
            row = _row(found, product_id)
            content = await service.working(generation, lambda: found.products.picture(row))
        finally:
            generation.leave()
        if not content:
            raise RefusedError(404, "this product has no picture")
        kind = "image/png" if content[:4] == b"\x89PNG" else "image/jpeg"
        return Response(content, media_type=kind, headers={"Cache-Control": "max-age=3600"})

    @app.get("/v1/systems")
    async def systems() -> dict[str, Any]:
        """What is served: labels, fingerprints, what can be filtered."""
        current = service.generations.current
        shown = {
            name: {
                "label": system.label,
                "fingerprint": system.fingerprint,
                "products": len(system.products),
                "fields": list(system.products.fields),
                "pictures": system.products.pictured,
            }
            for name, system in current.systems.items()
        }
        return {"title": service.title, "systems": shown, "can_roll_back": can_roll_back()}

    def can_roll_back() -> bool:
        return service.generations.previous is not None

    @app.post("/v1/events", status_code=202)
    async def events(body: EventBody) -> dict[str, bool]:
        """Log what a person did with an answer; the same event_id counts once."""
        return {"logged": service.log.event(body)}


def _running(app: FastAPI, service: Service) -> None:
    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready")
    @app.get("/health")
    async def ready() -> dict[str, str]:
        """Systems are open and warm, and the server is not stopping."""
        if not service.ready:
            raise RefusedError(503, "not ready", 1)
        return {"status": "ready"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.post("/admin/reload")
    async def reload(body: ReloadBody) -> dict[str, Any]:
        """Open what lies on disk now (or other overrides), and serve it without a pause."""
        return {"serving": await asyncio.to_thread(service.reload, body.systems)}

    @app.post("/admin/rollback")
    async def rollback() -> dict[str, Any]:
        """Serve what was served before."""
        return {"serving": await asyncio.to_thread(service.roll_back)}

    for path, name, kind in (
        ("/", "index.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
        ("/docs", "docs.html", "text/html"),
        ("/docs.js", "docs.js", "text/javascript"),
    ):
        app.get(path, include_in_schema=False)(_file(PAGE / name, kind))


def _file(path: Path, kind: str) -> Callable[[], Any]:
    async def send() -> FileResponse:
        return FileResponse(path, media_type=kind)

    return send
