"""Errors of the service, as RFC 9457 has them: what is wrong, never what was sent, no traces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.serving.cursors import CursorError, RetiredCursorError
from neurosearch.serving.pool import DeadlineError, OverloadError
from neurosearch.serving.products import UnknownFieldError

TITLES = {
    400: "bad request",
    401: "no valid key",
    403: "not allowed",
    404: "not found",
    405: "method not allowed",
    409: "can't be done now",
    410: "gone",
    413: "too large",
    415: "not a picture that can be read",
    422: "the request can't be read",
    429: "too many requests",
    500: "internal error",
    503: "overloaded",
    504: "no answer in time",
}


class RefusedError(Exception):
    """A request that is answered with an error. `retry`: seconds, where waiting helps."""

    def __init__(self, status: int, detail: str, retry: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry = status, detail, retry


def problem(
    request: Request,
    status: int,
    detail: str,
    retry: float | None = None,
    errors: Sequence[dict[str, str]] | None = None,
) -> JSONResponse:
    """An error's answer.

    Args:
        request: that failed.
        status: of HTTP.
        detail: for the caller.
        retry: seconds after which it may work.
        errors: of the body's fields.

    Returns:
        application/problem+json.
    """
    title = TITLES.get(status, "error")
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    body |= {"detail": detail, "request_id": getattr(request.state, "request_id", "")}
    if errors is not None:
        body["errors"] = list(errors)
    headers = {} if retry is None else {"Retry-After": str(max(1, math.ceil(retry)))}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def handle_problems(app: FastAPI) -> None:
    """Answer each kind of error in its own way.

    Args:
        app: the service.
    """

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return problem(request, error.status, error.detail, error.retry)

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"where": ".".join(map(str, one["loc"])), "message": one["msg"]}
            for one in error.errors()[:20]
        ]
        first = f"{errors[0]['where']}: {errors[0]['message']}" if errors else "no body"
        return problem(request, 422, first, errors=errors)

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        return problem(request, error.status_code, str(error.detail))

    @app.exception_handler(OverloadError)
    async def overloaded(request: Request, error: OverloadError) -> JSONResponse:
        return problem(request, 503, "too many requests wait; try again later", error.retry)

    @app.exception_handler(DeadlineError)
    async def late(request: Request, error: DeadlineError) -> JSONResponse:
        return problem(request, 504, "the deadline passed")

    @app.exception_handler(UnknownFieldError)
    async def strange(request: Request, error: UnknownFieldError) -> JSONResponse:
        return problem(request, 422, str(error))

    @app.exception_handler(CursorError)
    async def bad(request: Request, error: CursorError) -> JSONResponse:
        return problem(request, 400, str(error))

    @app.exception_handler(RetiredCursorError)
    async def retired(request: Request, error: RetiredCursorError) -> JSONResponse:
        return problem(request, 410, str(error))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", exc_info=error)
        return problem(request, 500, "the server failed; its log says why")


def told(error: InputError) -> RefusedError:
    """An error of the configuration, without paths of this machine.

    Args:
        error: that a reload raised.

    Returns:
        What the administrator is answered; the log has all of it.
    """
    log.error("reload refused: %s", error)
    status = 409 if "not built" in str(error) else 400
    words = [word if "/" not in word else "…" for word in str(error).split(" ")]
    return RefusedError(status, " ".join(words))
