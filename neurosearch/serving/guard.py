"""What every request passes before its route: an id, a key, a rate, a size, a measured time.

Plain ASGI: a middleware of Starlette's `BaseHTTPMiddleware` kind costs a task for each request.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neurosearch.serving.access import Keys, Rates
from neurosearch.serving.metrics import Metrics
from neurosearch.serving.problems import problem
from neurosearch.serving.querylog import new_id
from neurosearch.serving.settings import Limits

OPEN = ("/health", "/health/live", "/health/ready")  # without a key
PAGE = ("/", "/page.css", "/page.js", "/docs", "/docs.js", "/openapi.json")
SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    ),
)


class Guard:
    """Wraps the service."""

    def __init__(
        self, app: ASGIApp, keys: Keys, admin: Keys, limits: Limits, metrics: Metrics
    ) -> None:
        self._app, self._keys, self._admin = app, keys, admin
        self._rates, self._metrics = Rates(limits), metrics
        self._most, self._most_image = 1024 * limits.body_kb, 1_000_000 * limits.image_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        status, start = 500, time.perf_counter()
        self._metrics.active.inc()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (b"x-request-id", request_id.encode())
                message["headers"] = [*message["headers"], named, *SAFE]
            await send(message)

        try:
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, answer)
        finally:
            self._metrics.active.dec()
            route = scope.get("route")
            template = getattr(route, "path", "other")
            taken = self._metrics.requests.labels(scope["method"], template, str(status))
            taken.observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> Any:
        """The error of a request that goes no further; None for one that does."""
        path, request = scope["path"], Request(scope)
        if path in OPEN:
            return None
        given = _given_key(request)
        if path.startswith("/admin/"):
            if not self._admin:
                return problem(request, 403, "server.admin_keys names no key: /admin/ is closed")
            if not self._admin.knows(given):
                return problem(request, 401, "this needs an administrator's key")
            return None
        if self._keys and path not in PAGE and not self._keys.knows(given):
            return problem(request, 401, "send a key as Authorization: Bearer or X-API-Key")
        length = request.headers.get("content-length", "0")
        most = self._most_image if path == "/v1/search/image" else self._most
        if length.isdecimal() and int(length) > most:
            return problem(request, 413, f"the body may have {most:,} bytes")
        client = scope.get("client")
        caller = given if self._keys and given else (client[0] if client else "")
        wait = self._rates.wait(caller) if path.startswith("/v1/") else 0.0
        if wait:
            self._metrics.shed.labels("rate").inc()
            return problem(request, 429, "this caller's rate is used up", wait)
        return None


def _given_key(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("x-api-key", "")
