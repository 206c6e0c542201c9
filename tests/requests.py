"""Requests of tests: queries as they were typed."""

from __future__ import annotations

from typing import Any

from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.query.none import NoProcessing


def ask(split: str = "test", **fields: Any) -> RetrievalRequest:
    """A request without query processing."""
    return RetrievalRequest(NoProcessing(), split, **fields)
