"""What is wrong with logs, counted by name: clock skew, duplicates, orphans, bots.

Every rule removes lines and counts them under its name, in the order in which they are written
here. A log of which too much is removed is refused: its cause should be mended, not its lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe

AGAIN = "duplicate queries"
TWICE = "duplicate events"
ORPHANS = "events of unknown queries"
UNSHOWN = "clicks without an impression"
SKEWED = "events before their query (clock skew)"
LATE = "events long after their query"
ROBOTS = "queries of bots"
ROBOTIC = "events of bots"


@dataclass(frozen=True)
class Rules(Recipe):
    """Attributes:
    skew: seconds that an event may be before its query.
    window: seconds after which an event no longer belongs to its query.
    queries: a client with more of them on one day is a bot.
    most: share of the queries or of the events that may be left out.
    """

    skew: float = setting(2.0, least=0)
    window: float = setting(86_400.0, above=0)
    queries: int = setting(200, least=1)
    most: float = setting(0.3, above=0, most=1)


@dataclass(frozen=True)
class Cleaned:
    """Attributes:
    queries, events: what is left, as in `ubi.read`.
    left_out: lines by reason.
    """

    queries: pl.DataFrame
    events: pl.DataFrame
    left_out: Mapping[str, int]


def cleaned(queries: pl.DataFrame, events: pl.DataFrame, rules: Rules, where: Path) -> Cleaned:
    """Remove and count what can't be right.

    Args:
        queries: of `ubi.read`.
        events: of `ubi.read`.
        rules: limits.
        where: of the log, for the error.

    Returns:
        The rest.

    Raises:
        InputError: more than the allowed share of the lines is wrong.
    """
    counts: dict[str, int] = {}

    def kept(frame: pl.DataFrame, good: pl.DataFrame, reason: str) -> pl.DataFrame:
        counts[reason] = frame.height - good.height
        return good

    asked, done = queries.height, events.height
    queries = kept(queries, queries.unique("query", keep="first", maintain_order=True), AGAIN)
    event_key = ["message", "query", "client", "action", "product", "time"]
    named = events.with_columns(
        pl.when(pl.col("message").is_null())
        .then(pl.concat_str(event_key[1:], separator="\x1f", ignore_nulls=True))
        .otherwise(pl.col("message"))
        .alias("key")
    )
    events = kept(events, named.unique("key", keep="first", maintain_order=True).drop("key"), TWICE)
    # A bot's day: far more queries than a person types.
    day = pl.col("time").dt.date()
    many = queries.filter(pl.col("client").is_not_null()).group_by("client", day.alias("day")).len()
    robots = many.filter(pl.col("len") > rules.queries)["client"].unique()
    is_robot = pl.col("client").is_in(robots.implode()).fill_null(False)
    robot_queries = queries.filter(is_robot)["query"]
    queries = kept(queries, queries.filter(~is_robot), ROBOTS)
    theirs = pl.col("query").is_in(robot_queries.implode()).fill_null(False)
    events = kept(events, events.filter(~theirs), ROBOTIC)
    ids = queries.select("query", asked="time", hits="hits")
    joined = events.join(ids, on="query", how="left", maintain_order="left")
    joined = kept(joined, joined.filter(pl.col("asked").is_not_null()), ORPHANS)
    shown = pl.col("hits").list.contains(pl.col("product"))
    joined = kept(joined, joined.filter(shown), UNSHOWN)
    seconds = (pl.col("time") - pl.col("asked")).dt.total_milliseconds() / 1000
    joined = kept(joined, joined.filter(seconds >= -rules.skew), SKEWED)
    joined = kept(joined, joined.filter(seconds <= rules.window), LATE)
    _refuse(queries.height, asked, "queries", counts, rules, where)
    _refuse(joined.height, done, "events", counts, rules, where)
    return Cleaned(queries, joined.drop("asked", "hits"), counts)


def _refuse(
    left: int, total: int, what: str, counts: Mapping[str, int], rules: Rules, where: Path
) -> None:
    """Raise InputError where too few lines are left."""
    if total and 1 - left / total > rules.most:
        worst = {name: n for name, n in counts.items() if n}
        told = ", ".join(f"{n:,} {name}" for name, n in sorted(worst.items(), key=lambda x: -x[1]))
        raise InputError(
            f"{where}: {total - left:,} of {total:,} {what} are wrong ({told}), more than "
            f"logs.rules.most={rules.most:g}"
        )
