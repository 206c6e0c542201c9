"""Logs: what is planted is found again, UBI's files are read as written, bad lines have names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.evaluation.gain import LabelGain
from neurosearch.logs import cleaning, ubi
from neurosearch.logs.base import SearchLog
from neurosearch.logs.behaviour import Behaviour
from neurosearch.logs.cleaning import Rules
from neurosearch.logs.simulated import BUYS, Simulated
from neurosearch.logs.ubi import UBI
from neurosearch.logs.writing import write_ubi
from neurosearch.retriever.bm25 import BM25
from neurosearch.users.pbm import PBMUsers

GAIN = LabelGain("g", {"E": 3, "S": 2, "C": 1, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",))


@pytest.fixture(scope="module")
def log(shop: Artifact[Dataset], shop_runtime: Runtime) -> SearchLog:
    recipe = Simulated(ranker=BM25(engine="bm25s"), gain=GAIN, lists=6_000, shuffled=0.2)
    return shop_runtime.get(recipe.log(shop, "train"))


def test_clicks_have_the_planted_chances(
    log: SearchLog, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    """Rate of every grade and rank against θ_k times the grade's attraction, within 5 errors."""
    judged = GAIN.graded(shop_runtime.get(shop).judgments("train"))
    frame = log.frame.join(judged, on=["query_id", "product_id"])
    assert frame.height == log.frame.height  # nothing but judged products is shown
    rates = frame.group_by("gain", "position").agg(pl.col("clicked").mean(), n=pl.len())
    users = PBMUsers()
    for gain, position, rate, count in rates.iter_rows():
        wanted = users.attraction[int(gain)] * position**-users.decay
        assert abs(rate - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / count) + 1e-9
    bought = frame.filter(pl.col("clicked"), pl.col("gain") == 3)["purchased"]
    assert bought.mean() == pytest.approx(BUYS[3], abs=0.05)
    assert not frame.filter(~pl.col("clicked"))["purchased"].any()
    lists = frame.group_by("list").agg(pl.col("randomised").first())
    assert lists["randomised"].mean() == pytest.approx(0.2, abs=0.03)


def test_arrays_hold_the_frame(log: SearchLog) -> None:
    logged = log.arrays(4)
    assert logged.log.pairs.shape == (6_000, 4)
    kept = log.frame.filter(pl.col("position") <= 4)
    assert int(logged.log.clicks.sum()) == kept["clicked"].sum()
    line = kept.filter(pl.col("list") == 17).sort("position")
    products = logged.pairs["product_id"].gather(logged.log.pairs[17]).to_list()
    assert products == line["product_id"].to_list()
    half = logged.part(np.arange(6_000) % 2 == 0)
    assert half.log.count == logged.log.count and len(half.log) == 3_000


def test_what_a_click_is_worth() -> None:
    frame = pl.DataFrame(
        {
            "list": [0, 0, 0, 1],
            "client": ["a", "a", "a", "b"],
            "query_id": ["q"] * 4,
            "product_id": ["x", "y", "z", "x"],
            "position": [1, 2, 3, 1],
            "clicked": [True, True, False, True],
            "purchased": [True, False, False, False],
            "dwell": [40.0, 5.0, None, None],
            "randomised": [False] * 4,
        }
    )
    logged = SearchLog(frame, {}).arrays(3)
    assert logged.worth(0, 0, 1).tolist() == [[1, 1, 0], [1, 0, 0]]
    # A short stay is no click, a purchase adds 3, an unknown stay counts.
    assert logged.worth(30, 3, 1).tolist() == [[4, 0, 0], [1, 0, 0]]
    assert logged.worth(0, 0, 2).tolist() == [[1, 0, 0], [1, 0, 0]]  # x alone has two clients


def test_the_shops_sessions_are_a_log(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    log = shop_runtime.get(Behaviour().log(shop, "train"))
    events = shop_runtime.get(shop).behaviour
    assert events is not None
    assert log.frame["clicked"].sum() == (events["event"] == "click").sum()
    assert log.frame["list"].n_unique() == 50
    with pytest.raises(InputError, match="no session is of a dev query"):
        shop_runtime.get(Behaviour().log(shop, "dev"))


def test_nothing_is_simulated_for_test_queries(shop: Artifact[Dataset]) -> None:
    with pytest.raises(InputError, match="test queries"):
        Simulated(ranker=BM25(engine="bm25s"), gain=GAIN).log(shop, "test")


def test_ubi_is_read_as_it_was_written(
    log: SearchLog, shop: Artifact[Dataset], shop_runtime: Runtime, tmp_path: Path
) -> None:
    queries = shop_runtime.get(shop).queries("train").frame
    texts = dict(queries.select("query_id", "text").iter_rows())
    # Of equal texts the first query is meant.
    first = queries.unique("text", keep="first")["query_id"]
    kept = log.frame.filter(pl.col("query_id").is_in(first.implode()))
    write_ubi(SearchLog(kept, {}), texts, tmp_path / "log", "test")
    back = shop_runtime.get(UBI(path=str(tmp_path / "log")).log(shop, "train"))
    one, other = (f.sort("query_id", "client", "list", "position") for f in (kept, back.frame))
    columns = ["client", "query_id", "product_id", "position", "clicked", "purchased", "dwell"]
    assert one.select(*columns, "randomised").equals(other.select(*columns, "randomised"))
    assert not any(back.left_out.values())


def test_no_log_of_searches_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        ubi.read(tmp_path / "none")
    with pytest.raises(InputError, match=r"queries\*\.jsonl"):
        ubi.read(tmp_path)


def query(name: str = "q1", second: int = 0, client: str = "c", **more: Any) -> dict[str, Any]:
    return {
        "query_id": name,
        "client_id": client,
        "user_query": "mug",
        "timestamp": f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}+00:00",
        "query_response_hit_ids": ["a", "b"],
        **more,
    }


def event(name: str = "q1", second: int = 5, product: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "action_name": "click",
        "query_id": name,
        "client_id": "c",
        "timestamp": f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}+00:00",
        "message_id": f"{name}{second}{product}",
        "event_attributes": {"object": {"object_id": product}, "position": {"ordinal": 1}},
        **more,
    }


def written(folder: Path, queries: list[Any], events: list[Any]) -> Path:
    for name, lines in (("queries", queries), ("events", events)):
        text = [one if isinstance(one, str) else json.dumps(one) for one in lines]
        (folder / f"{name}.jsonl").write_text("\n".join(text))
    return folder


GOOD = [event(second=s, product="b") for s in range(1, 11)]


@pytest.mark.parametrize(
    "queries, events, reason, count",
    [
        ([query(), query(second=1)], GOOD, cleaning.AGAIN, 1),
        ([query()], [*GOOD, GOOD[0]], cleaning.TWICE, 1),
        ([query()], [*GOOD, *[event(message_id=None, product="a")] * 3], cleaning.TWICE, 2),
        ([query()], [*GOOD, event("q9")], cleaning.ORPHANS, 1),
        ([query()], [*GOOD, event(product="z")], cleaning.UNSHOWN, 1),
        ([query(second=600)], [*[event(second=600 + s) for s in range(9)], event(second=500)],
         cleaning.SKEWED, 1),
        ([query()], [*GOOD, event(timestamp="2026-01-03T00:00:00+00:00")], cleaning.LATE, 1),
    ],
)  # fmt: skip
def test_what_is_wrong_is_counted_by_name(
    tmp_path: Path, queries: list[Any], events: list[Any], reason: str, count: int
) -> None:
    frames = ubi.read(written(tmp_path, queries, events))
    found = cleaning.cleaned(*frames[:2], Rules(most=0.6), tmp_path)
    assert found.left_out[reason] == count
    assert sum(found.left_out.values()) == count
    total = len(queries) + len(events)
    assert found.queries.height + found.events.height == total - count


def test_bots_are_left_out_with_their_events(tmp_path: Path) -> None:
    robot = [query(f"r{n}", client="robot") for n in range(4)]
    people = [query(f"p{n}", client=f"c{n}") for n in range(8)]
    events = [event("r1"), *[event(f"p{n}") for n in range(8)]]
    frames = ubi.read(written(tmp_path, [*robot, *people], events))
    found = cleaning.cleaned(*frames[:2], Rules(queries=3, most=0.5), tmp_path)
    assert found.left_out[cleaning.ROBOTS] == 4 and found.left_out[cleaning.ROBOTIC] == 1
    with pytest.raises(InputError, match=r"4 of 12 queries are wrong \(4 queries of bots"):
        cleaning.cleaned(*frames[:2], Rules(queries=3), tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x.pop("query_id"), "query_id is missing"),
        (lambda x: x.update(query_id=7), "query_id must be a text, not 7"),
        (lambda x: x.update(timestamp="yesterday"), "timestamp 'yesterday' is no ISO 8601 time"),
        (lambda x: x.update(query_response_hit_ids="a"), "query_response_hit_ids is no list"),
        (lambda x: x.update(timestamp=1e30), "timestamp 1e.30 is no time"),
        (lambda x: x.update(query_attributes="a"), "query_attributes must be an object"),
        (lambda x: x.update(query_attributes={"offset": -50}), "offset must be a number of 0"),
        (lambda x: x.update(query_attributes={"offset": "z"}), "offset must be a number of 0"),
    ],
)
def test_a_malformed_line_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    bad = query("q2")
    change(bad)
    with pytest.raises(InputError, match=rf"queries\.jsonl:2: {message}"):
        ubi.read(written(tmp_path, [query(), bad], GOOD))


def test_a_line_that_was_cut_off_is_counted(tmp_path: Path) -> None:
    assert ubi.read(written(tmp_path, [query(), '{"query_id": "q'], GOOD))[2] == 1
    with pytest.raises(InputError, match=r"queries\.jsonl:1 is not JSON"):
        ubi.read(written(tmp_path, ["{broken", query()], GOOD))


def test_a_log_of_other_queries_is_refused(
    shop: Artifact[Dataset], runtime: Runtime, tmp_path: Path
) -> None:
    written(tmp_path, [query(user_query="nothing like it")], [event()])
    with pytest.raises(InputError, match="no search has the text of a train query"):
        runtime.get(UBI(path=str(tmp_path)).log(shop, "train"))


def test_another_log_is_another_artifact(shop: Artifact[Dataset]) -> None:
    base = Simulated(ranker=BM25(engine="bm25s"), gain=GAIN)
    other = Simulated(ranker=BM25(engine="bm25s"), gain=GAIN, noise=0.7)
    prints = {one.log(shop, "train").artifact_fingerprint for one in (base, other)}
    assert len(prints) == 2
