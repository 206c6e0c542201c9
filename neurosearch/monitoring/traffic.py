"""Queries as a monitor sees them: of a server's log, or of a data set, asked of the system now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.serving.systems import System

SCHEMA: dict[str, Any] = {
    "text": pl.String(),  # null where the log has none
    "client": pl.String(),  # null for a caller without a name
    "time": pl.String(),
    "words": pl.Int64(),
    "products": pl.Int64(),  # of the first page
    "top_score": pl.Float64(),
    "category": pl.String(),  # of the first product
    "system": pl.String(),
    "fingerprint": pl.String(),
    "ms": pl.Float64(),  # of all stages; null for an answer from the cache
}


def read_log(folder: Path, system: str | None = None) -> pl.DataFrame:
    """The queries of a log's files, oldest first; further pages of an answer are left out.

    A last line that was cut off by a killed server is skipped.

    Args:
        folder: of the log.
        system: whose queries; None for all.

    Returns:
        One row a query (SCHEMA).

    Raises:
        InputError: there is no log, or a line that can't be read.
    """
    files = sorted(folder.glob("queries-*.jsonl"))
    if not files:
        raise InputError(f"{folder}: there is no query log (queries-*.jsonl)")
    rows = []
    for path in files:
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                one = json.loads(line)
                row = _row(one)
            except (ValueError, KeyError, TypeError, AttributeError):
                if number == len(lines):
                    log.warning("%s:%d is cut off: skipped", path, number)
                    continue
                raise InputError(f"{path}:{number} is no line of a query log") from None
            attributes = one["query_attributes"]
            if attributes.get("offset", 0) == 0 and system in (None, attributes.get("system")):
                rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    if not isinstance(one["user_query"], str | None):
        raise TypeError("user_query")
    attributes = one["query_attributes"]
    stages = attributes.get("stages_ms") or {}
    return (
        one["user_query"],
        one["client_id"],
        str(one["timestamp"]),
        int(attributes["words"]),
        len(one["query_response_hit_ids"]),
        attributes["top_score"],
        attributes["category"],
        str(attributes.get("system", "")),
        str(attributes["fingerprint"]),
        float(sum(stages.values())) if stages else None,
    )


def asked_now(system: System, texts: list[str]) -> pl.DataFrame:
    """Queries of a data set, each a caller of its own, answered by the system now.

    Args:
        system: that is served.
        texts: of the queries.

    Returns:
        One row a query (SCHEMA).
    """
    rows = []
    for text in texts:
        found, scores = (a[0] for a in system.live.search([text], 10))
        kept = found >= 0
        shown = system.products.shown(found[kept][:1])
        first = shown[0].get("category") if shown else None
        score = float(scores[kept][0]) if kept.any() else None
        words, products = len(text.split()), int(kept.sum())
        print_ = system.fingerprint
        rows.append((text, None, "", words, products, score, first, system.name, print_, None))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def units(frame: pl.DataFrame, side: str) -> list[str]:
    """Who asked each query: its caller on its day, or nobody else where it has no name.

    Args:
        frame: of `read_log` or `asked_now`.
        side: tells unnamed callers of two frames apart.

    Returns:
        One name a query.
    """
    return [
        f"{time[:10]} {client}" if client is not None else f"{side} query {number}"
        for number, (client, time) in enumerate(frame.select("client", "time").iter_rows())
    ]


def numbered(reference: list[str], window: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Names as numbers, equal ones the same.

    Args:
        reference, window: names.

    Returns:
        Two arrays of int64.
    """
    known = {name: number for number, name in enumerate(dict.fromkeys([*reference, *window]))}
    pair = [np.array([known[name] for name in side], np.int64) for side in (reference, window)]
    return pair[0], pair[1]
