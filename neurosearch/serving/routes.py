"""The HTTP routes: FastAPI's side of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, Response

from neurosearch.serving.answers import Asked, picture_answer
from neurosearch.serving.guard import Guard
from neurosearch.serving.pictures import readable
from neurosearch.serving.problems import TITLES, RefusedError, handle_problems
from neurosearch.serving.schemas import (
    BatchAnswer,
    BatchBody,
    EventBody,
    ExplainBody,
    Problem,
    ReloadBody,
    SearchAnswer,
    SearchBody,
)
from neurosearch.serving.service import Service
from neurosearch.serving.systems import System

PAGE = Path(__file__).with_name("page")
Page = Annotated[int, Query(ge=1, le=100)]  # products of an answer


def application(service: Service) -> Guard:
    """The ASGI application.

    Args:
        service: what it answers with.

    Returns:
        The application behind its guard.
    """

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        service.swapped("start")
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
        product_id: str, request: Request, k: Page = 10, system: str | None = None
    ) -> Response:
        """Products that the system finds for this one's title."""
        with service.generations.used() as generation:
            found = service.system(generation, system)
            row = _row(found, product_id)
            title = found.products.shown(np.array([row]))[0].get("title", "")
            if not title.strip():
                raise RefusedError(404, "this product has no title")
            asked = Asked(title, k, excluded=product_id)
            kept, outcome = await service.found(generation, found, asked)
            whole = service.whole(found, asked, kept, request.state.request_id, outcome)
        return _json(whole)

    @app.post("/v1/search/image", response_model=SearchAnswer)
    async def by_picture(request: Request, k: Page = 10, system: str | None = None) -> Response:
        """The products whose pictures resemble the one that is sent as the body (PNG or JPEG)."""
        picture = readable(await request.body(), service.limits.image_mb)
        with service.generations.used() as generation:
            found = service.system(generation, system)
            kept = await service.working(generation, lambda: picture_answer(found, picture, k))
            asked, request_id = Asked("picture", k), request.state.request_id
            return _json(service.whole(found, asked, kept, request_id, "miss"))

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
        with service.generations.used() as generation:
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
        if found is None:
            raise RefusedError(404, f"this product is not among the first {system.depth}")
        return found

    @app.get("/v1/products/{product_id}/image")
    async def image(product_id: str, system: str | None = None) -> Response:
        """A product's picture."""
        with service.generations.used() as generation:
            found = service.system(generation, system)
            row = _row(found, product_id)
            content = await service.working(generation, lambda: found.products.picture(row))
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
        can_roll_back = service.generations.previous is not None
        return {"title": service.title, "systems": shown, "can_roll_back": can_roll_back}

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
