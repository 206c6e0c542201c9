"""A log as UBI's files, for other tools, and for reading back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.logs.base import SearchLog

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)  # of the first list; one a second


def write_ubi(log: SearchLog, texts: Mapping[str, str], folder: Path, application: str) -> None:
    """Write queries.jsonl and events.jsonl.

    Args:
        log: of impressions.
        texts: of the queries, by id.
        folder: that is made where it is not there.
        application: named in every line, such as `simulated`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_list = log.frame.sort("list", "position").partition_by("list", maintain_order=True)
    with (folder / "queries.jsonl").open("w") as queries, (folder / "events.jsonl").open("w") as to:
        for frame in by_list:
            first = frame.row(0, named=True)
            time = BEGIN + timedelta(seconds=first["list"])
            name = f"q{first['list']}"
            shared = {"application": application, "query_id": name, "client_id": first["client"]}
            line = {
                **shared,
                "user_query": texts[first["query_id"]],
                "timestamp": time.isoformat(timespec="milliseconds"),
                "query_response_id": name,
                "query_response_hit_ids": frame["product_id"].to_list(),
                "query_attributes": {"randomised": first["randomised"]},
            }
            queries.write(json.dumps(line, ensure_ascii=False) + "\n")
            for row in frame.filter(pl.col("clicked")).iter_rows(named=True):
                for event in _events(row, shared, time):
                    to.write(json.dumps(event, ensure_ascii=False) + "\n")


def _events(row: dict[str, Any], shared: dict[str, Any], time: datetime) -> list[dict[str, Any]]:
    """A click, and a purchase where there was one."""
    attributes: dict[str, Any] = {
        "object": {"object_id": row["product_id"], "object_id_field": "product_id"},
        "position": {"ordinal": row["position"]},
    }
    if row["dwell"] is not None:
        attributes["dwell_time"] = row["dwell"]
    found = []
    for number, action in enumerate(("click", "purchase")[: 1 + row["purchased"]]):
        at = time + timedelta(seconds=row["position"] + 30 * number)
        found.append(
            {
                **shared,
                "action_name": action,
                "timestamp": at.isoformat(timespec="milliseconds"),
                "message_id": f"{shared['query_id']}-{row['position']}-{action}",
                "event_attributes": attributes,
            }
        )
    return found
