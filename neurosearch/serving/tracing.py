"""Spans of a search's stages below the request's span, which FastAPI itself opens.

Nothing is recorded unless a provider is set up, such as by the environment variables of
OpenTelemetry with FASTAPI_OTEL_AUTO_CONFIGURE=true. No span holds a query's text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from opentelemetry import trace

_TRACER = trace.get_tracer("neurosearch")


def stages(milliseconds: Mapping[str, float]) -> None:
    """Add a span for each stage of the search that has just ended, one after the other.

    Args:
        milliseconds: by stage.
    """
    if not trace.get_current_span().is_recording():
        return
    now = time.time_ns()
    start = now - int(1e6 * sum(milliseconds.values()))
    for name, spent in milliseconds.items():
        span = _TRACER.start_span(f"neurosearch.{name}", start_time=start)
        start += int(1e6 * spent)
        span.end(end_time=start)
