"""Logs in UBI's schema (User Behavior Insights 1.x), as `task=serve` and OpenSearch write them.

A folder of JSON lines: `queries*.jsonl` (one search a line: query_id, client_id, user_query,
timestamp, query_response_hit_ids) and `events*.jsonl` (action_name, query_id, client_id,
timestamp, event_attributes.object.object_id, …position.ordinal, …dwell_time). A search belongs to
the query of the data whose text is the same, case and blanks aside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import PRODUCTS, Dataset, queries_of
from neurosearch.logs.base import LogArtifact, Logs, SearchLog
from neurosearch.logs.cleaning import Cleaned, Rules, cleaned

TIME = pl.Datetime("ms", "UTC")
QUERIES: dict[str, Any] = {
    "query": pl.String,  # of the search
    "client": pl.String,
    "text": pl.String,
    "time": TIME,
    "hits": pl.List(pl.String),
    "offset": pl.Int64,  # of the page's first product
    "attributes": pl.String,  # JSON
}
EVENTS: dict[str, Any] = {
    "action": pl.String,
    "query": pl.String,
    "client": pl.String,
    "time": TIME,
    "message": pl.String,  # the event's id; null where it has none
    "product": pl.String,
    "position": pl.Int64,
    "dwell": pl.Float64,  # seconds
}
TORN = "lines that were cut off"


@dataclass(frozen=True)
class UBI(Logs):
    """Attributes:
    path: the folder.
    rules: what is left out.
    """

    pool: ClassVar[str] = "catalogue"
    path: str = content(content_digest, kw_only=True)
    rules: Rules = field(default_factory=Rules)

    def log(self, data: Artifact[Dataset], split: str) -> Artifact[SearchLog]:
        parts = view.only(data, PRODUCTS, queries_of(split))
        return UBILog(parts, split, self)

    def label(self) -> str:
        return Path(self.path).name


@dataclass(frozen=True)
class UBILog(LogArtifact):
    recipe: UBI

    def gathered(self, runtime: Runtime) -> SearchLog:
        data, where = runtime.get(self.data), Path(self.recipe.path)
        queries, events, torn = read(where)
        found = cleaned(queries, events, self.recipe.rules, where)
        frame, strange = impressions(found, data, self.split)
        if frame.is_empty():
            hint = (
                "" if self.split == "train" else " (implicit.select=labels takes people's labels)"
            )
            raise InputError(f"{where}: no search has the text of a {self.split} query{hint}")
        return SearchLog(frame, {**found.left_out, **strange, TORN: torn})


def impressions(found: Cleaned, data: Dataset, split: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """What was shown and clicked for a split's queries.

    Args:
        found: a log that was cleaned.
        data: with the split's queries.
        split: of the queries.

    Returns:
        One row an impression, and what was left out, by reason.
    """
    texts = data.queries(split).frame.select("query_id", text=_plain("text"))
    texts = texts.unique("text", keep="first", maintain_order=True)
    known = found.queries.with_columns(text=_plain("text")).join(
        texts, on="text", how="inner", maintain_order="left"
    )
    counts = {f"searches that are no {split} query": found.queries.height - known.height}
    shown = (
        known.with_row_index("list")
        .explode("hits", empty_as_null=False, keep_nulls=False)
        .with_columns(
            position=pl.col("offset") + pl.int_range(1, pl.len() + 1).over("list"),
        )
        .rename({"hits": "product_id"})
    )
    product_ids = data.catalogue.ids
    there = shown.filter(pl.col("product_id").is_in(product_ids.implode()))
    counts["impressions of unknown products"] = shown.height - there.height
    acted = found.events.group_by("query", product_id="product").agg(
        clicked=pl.col("action").is_in(["click", "dwell", "add_to_cart", "purchase"]).any(),
        purchased=(pl.col("action") == "purchase").any(),
        dwell=pl.col("dwell").max(),
    )
    frame = there.join(acted, on=["query", "product_id"], how="left", maintain_order="left")
    frame = frame.with_columns(
        pl.col("clicked", "purchased").fill_null(False),
        randomised=pl.col("attributes").str.json_path_match("$.randomised").eq("true"),
    ).with_columns(pl.col("randomised").fill_null(False))
    return frame, counts


def _plain(column: str) -> pl.Expr:
    """A text without what does not tell queries apart."""
    text = pl.col(column).str.normalize("NFKC").str.to_lowercase()
    return text.str.replace_all(r"\s+", " ").str.strip_chars()


def read(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """The lines of a log, with types.

    Args:
        folder: with queries*.jsonl and events*.jsonl.

    Returns:
        Queries (QUERIES), events (EVENTS), and last lines that a killed server cut off.

    Raises:
        InputError: no files, or a line that is none of the schema: file, line and key.
    """
    if not folder.is_dir():
        raise InputError(f"logs.path: {folder} is no folder")
    frames, torn = [], 0
    for kind, schema, row in (("queries", QUERIES, _query), ("events", EVENTS, _event)):
        files = sorted(folder.glob(f"{kind}*.jsonl"))
        if not files and kind == "queries":
            raise InputError(f"{folder}: there is no log (queries*.jsonl)")
        rows: list[tuple[Any, ...]] = []
        for path in files:
            for where, line, is_torn in _lines(path):
                torn += is_torn
                if not is_torn:
                    rows.append(_typed(row, line, where))
        frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
    return frames[0], frames[1], torn


def _lines(path: Path) -> Iterator[tuple[str, Any, bool]]:
    """Place, content, and whether it is a last line without an end."""
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            one = json.loads(line)
        except ValueError:
            if number == len(lines):
                yield where, None, True
                continue
            raise InputError(f"{where} is not JSON") from None
        if not isinstance(one, dict):
            raise InputError(f"{where} is not an object")
        yield where, one, False


def _typed(row: Any, line: dict[str, Any], where: str) -> tuple[Any, ...]:
    """The row of a line. Raises InputError naming the key that is missing or of another type."""
    try:
        found: tuple[Any, ...] = row(line)
    except KeyError as error:
        raise InputError(f"{where}: {error.args[0]} is missing") from None
    except (TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise InputError(f"{where}: {error}") from None
    return found


def _query(line: dict[str, Any]) -> tuple[Any, ...]:
    attributes = _object(line, "query_attributes")
    hits = line.get("query_response_hit_ids") or []
    if not isinstance(hits, list):
        raise TypeError("query_response_hit_ids is no list")
    return (
        _text(line, "query_id"),
        _optional(line, "client_id"),
        _optional(line, "user_query"),
        _time(line),
        [str(one) for one in hits],
        _number(attributes, "offset", int) or 0,
        json.dumps(attributes),
    )


def _event(line: dict[str, Any]) -> tuple[Any, ...]:
    attributes = _object(line, "event_attributes")
    shown = _object(attributes, "object")
    product = shown.get("object_id")
    return (
        _text(line, "action_name"),
        _text(line, "query_id"),
        _optional(line, "client_id"),
        _time(line),
        _optional(line, "message_id"),
        None if product is None else str(product),
        _number(_object(attributes, "position"), "ordinal", int),
        _number(attributes, "dwell_time", float),
    )


def _object(line: dict[str, Any], key: str) -> dict[str, Any]:
    value = line.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{key} must be an object, not {value!r}")
    return value


def _number(line: dict[str, Any], key: str, kind: type) -> Any:
    value = line.get(key)
    if value is None:
        return None
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 <= value < 1e12:
        raise ValueError(f"{key} must be a number of 0 or more, not {value!r}")
    return kind(value)


def _text(line: dict[str, Any], key: str) -> str:
    value = line[key]
    if not isinstance(value, str) or not value:
        raise TypeError(f"{key} must be a text, not {value!r}")
    return value


def _optional(line: dict[str, Any], key: str) -> str | None:
    value = line.get(key)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{key} must be a text, not {value!r}")
    return value


def _time(line: dict[str, Any]) -> datetime:
    value = line["timestamp"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < 1e14:
            raise ValueError(f"timestamp {value!r} is no time in milliseconds")
        return datetime.fromtimestamp(value / 1000, UTC)  # milliseconds, as OpenSearch stores them
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"timestamp {value!r} is no ISO 8601 time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
