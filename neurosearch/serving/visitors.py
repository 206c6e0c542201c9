"""SIMULATED visitors of a running server: they search, click by the truth, and report it.

They know the grade of every pair of the simulated shop (`data.truth`), ask its test queries, and
send what they see and do to `/v1/events`, so that the server's log is one of a real trial's kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.trial.simulated import Population
from neurosearch.users.base import Users

SENT = "simulated-"  # what their events' ids begin with

# From a path and a JSON body to a status and a JSON answer.
Post = Callable[[str, dict[str, Any]], tuple[int, Any]]


def visit(
    post: Post,
    texts: list[str],
    grades: np.ndarray,
    product_ids: pl.Series,
    users: Users,
    population: Population,
    rng: np.random.Generator,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, int]:
    """Let visitors search.

    Args:
        post: sends a request.
        texts: Q queries.
        grades: Q×N grades of all pairs.
        product_ids: N, by row.
        users: how they click.
        population: who asks what.
        rng: of the clicks.
        progress: is told of each search.

    Returns:
        Searches and clicks.

    Raises:
        InputError: the server refuses, or shows products of another catalogue.
    """
    rows = {name: row for row, name in enumerate(product_ids)}
    clicks = 0
    for number, (user, query) in enumerate(zip(population.user, population.query, strict=True)):
        client = f"visitor-{user}"
        status, answer = post("/v1/search", {"query": texts[query], "client_id": client})
        if status != 200:
            raise InputError(f"task.url: the server answers {status}: {str(answer)[:200]}")
        shown = [one["product_id"] for one in answer["results"]]
        strange = [name for name in shown if name not in rows]
        if strange:
            raise InputError(f"task.url: the server shows {strange[0]!r}, which data=shop has not")
        held = np.full((1, 10), -1, dtype=np.int64)
        held[0, : len(shown)] = [grades[query][rows[name]] for name in shown[:10]]
        clicked = users.clicks(held, rng, population.readiness[user : user + 1])[0]
        for place in np.flatnonzero(clicked):
            event = {
                "event_id": f"{SENT}{number}-{place}",
                "query_id": answer["request_id"],
                "action_name": "click",
                "product_id": shown[place],
                "position": int(place) + 1,
                "client_id": client,
            }
            status, told = post("/v1/events", event)
            if status != 202:
                raise InputError(f"task.url: an event was answered {status}: {str(told)[:200]}")
            clicks += 1
        progress(1)
    return {"searches": len(population.query), "clicks": clicks}
