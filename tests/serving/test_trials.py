"""A trial on served systems from end to end: assignment, mixed lists, the log, and its score."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.shop import Shop
from neurosearch.data.truth import Truth
from neurosearch.interleaving.balanced import Balanced
from neurosearch.serving.visitors import visit
from neurosearch.task.trial import Trial, needed
from neurosearch.trial.assignment import arm
from neurosearch.trial.served import ServedTrial
from neurosearch.trial.simulated import Population
from neurosearch.users.pbm import PBMUsers
from tests.served import Served, systems

SALT = "order of words"


def asked(client: TestClient, name: str | None, text: str = "mug", **more: Any) -> dict[str, Any]:
    body = {"query": text, **({"client_id": name} if name else {}), **more}
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def queries_of(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "serving" / "log").glob("queries-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_callers_see_the_arm_that_the_salt_gives(served: Served, tmp_path: Path) -> None:
    trial = ServedTrial(SALT, shares=(0.3, 0.3))
    names = ["words", "both"]
    with served(trial=trial) as client:
        for number in range(30):
            place = arm(SALT, f"c{number}", (0.3, 0.3))
            answer = asked(client, f"c{number}")
            assert answer["system"] == names[max(place, 0)]
        assert asked(client, None)["system"] == "words"  # nobody: not part of the trial
        assert asked(client, "c1", system="both")["system"] == "both"
    logged = queries_of(tmp_path)
    arms = [line["query_attributes"].get("arm") for line in logged[:30]]
    wanted = [arm(SALT, f"c{n}", (0.3, 0.3)) for n in range(30)]
    assert arms == [None if n < 0 else names[n] for n in wanted] and None in arms
    assert all("trial" not in line["query_attributes"] for line in logged[30:])


def test_a_mixed_list_is_the_callers_own_and_logged(served: Served, tmp_path: Path) -> None:
    trial = ServedTrial(SALT, kind="interleaving")
    with served(trial=trial) as client:
        alone = {name: asked(client, None, system=name) for name in ("words", "both")}
        found = {n: asked(client, f"c{n}") for n in range(12)}
        again = asked(client, "c3")
        refused = client.post("/v1/search", json={"query": "mug", "client_id": "c3", "cursor": "x"})
    assert refused.status_code == 400
    lists = {name: [one["product_id"] for one in a["results"]] for name, a in alone.items()}
    kinds = set()
    for answer in found.values():
        shown = [one["product_id"] for one in answer["results"]]
        assert answer["system"] == "interleaved" and answer["next_cursor"] is None
        assert [one["rank"] for one in answer["results"]] == list(range(1, len(shown) + 1))
        assert len(set(shown)) == len(shown) and shown[0] in (lists["words"][0], lists["both"][0])
        assert set(shown) <= {*lists["words"], *lists["both"]}
        kinds.add(tuple(shown))
    assert len(kinds) > 1
    assert again["results"] == found[3]["results"]
    line = queries_of(tmp_path)[2]
    credits = line["query_attributes"]["credits"]
    assert len(credits) == len(line["query_response_hit_ids"]) and set(credits) <= {-1.0, 1.0}
    assert line["query_response_hit_ids"] == [one["product_id"] for one in found[0]["results"]]


@pytest.mark.parametrize("kind", ["ab", "interleaving"])
def test_visitors_are_logged_and_scored(
    kind: str,
    served: Served,
    shop: Artifact[Dataset],
    shop_runtime: Runtime,
    tmp_path: Path,
) -> None:
    """The score of the log is the score by hand of what the visitors were sent."""
    recipe = Shop(n_products=500, n_queries=60, n_sessions=50, images=False)
    truth = shop_runtime.get(Truth(recipe))
    data = shop_runtime.get(shop)
    texts = dict(data.queries("test").frame.select("query_id", "text").iter_rows())
    rng = np.random.default_rng(0)
    population = Population.drawn(60, len(truth.query_ids), rng, alike=True)
    sent: list[tuple[str, Any, Any]] = []
    # The control's name comes after the other one's in the alphabet.
    trial = ServedTrial(SALT, kind=kind, systems=("words", "both"))
    with served(trial=trial) as client:

        def post(path: str, body: dict[str, Any]) -> tuple[int, Any]:
            answer = client.post(path, json=body)
            sent.append((path, body, answer.json()))
            return answer.status_code, answer.json()

        counts = visit(
            post,
            [texts[name] for name in truth.query_ids],
            np.asarray(truth.grades),
            data.catalogue.ids,
            PBMUsers(),
            population,
            rng,
        )
    assert counts["searches"] == len(population.query) and counts["clicks"] > 20
    task = Trial(systems={})  # the log says which is the control
    facts = task._scored(tmp_path / "serving" / "log")
    assert facts["simulated"]  # the visitors' events say so
    assert facts["trial"] == SALT and facts["searches"] == counts["searches"]
    assert not any(facts["left out"].values())
    searches = [(b, a) for path, b, a in sent if path == "/v1/search"]
    clicked = [b for path, b, _ in sent if path == "/v1/events"]
    if kind == "ab":
        found = facts["A/B"]
        assert sum(found["callers"]) == 60
        by_arm = {}
        for name in ("words", "both"):
            ids = {a["request_id"] for _, a in searches if a["system"] == name}
            by_arm[name] = sum(e["query_id"] in ids for e in clicked) / len(ids)
        assert found["arms"] == ["words", "both"]
        assert found["clicks a search"] == pytest.approx([by_arm["words"], by_arm["both"]])
        assert len(found["guardrails"]) == 3
        return
    found = facts["interleaving"]
    assert found["callers"] == 60 and found["searches"] == counts["searches"]
    lines = {line["query_id"]: line for line in queries_of(tmp_path)}
    wins = {}
    for event in clicked:
        line = lines[event["query_id"]]
        credit = line["query_attributes"]["credits"][event["position"] - 1]
        wins[event["query_id"]] = wins.get(event["query_id"], 0) + credit
    mean = sum(np.sign(x) for x in wins.values()) / counts["searches"]
    assert found["effect"]["difference"] == pytest.approx(mean)


def test_another_trials_log_is_named(served: Served, tmp_path: Path) -> None:
    with served(trial=ServedTrial(SALT)) as client:
        asked(client, "c1")
    folder = tmp_path / "serving" / "log"
    with pytest.raises(InputError, match=f"has the trials {SALT}; name one"):
        replace(Trial(systems=systems()), salt="other")._scored(folder)
    with pytest.raises(InputError, match="and not words and both"):
        Trial(systems=systems())._scored(folder)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ServedTrial(""), r"task\.salt"),
        (lambda: ServedTrial("s", shares=(0.7, 0.7)), r"task\.shares"),
        (lambda: ServedTrial("s", kind="c"), "kind must be one of"),
        (lambda: ServedTrial("s", interleaving=Balanced()), "team_draft, probabilistic"),
        (lambda: ServedTrial("s", systems=("a", "z")).names({"a": 1, "b": 2}), "two of the served"),
        (lambda: Trial(systems={}, url="http://x", log="y"), "must be null"),
        (lambda: Trial(systems={}, shares=(0.3, 0.3, 0.3)), "must be two numbers"),
    ],
)
def test_bad_trials(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_the_ratio_of_powers_has_an_interval() -> None:
    found = needed(3.0, 6.0)
    assert found is not None and found["ratio"] == pytest.approx(0.25)
    assert found["low"] < 0.25 < found["high"]
    unsure = needed(0.15, 2.0)
    assert unsure is not None and unsure["high"] / unsure["low"] > 1e6
    assert needed(0.0, 2.0) is None
