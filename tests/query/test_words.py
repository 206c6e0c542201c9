"""Compounds by hand: what is joined and split, with which weight; what stays."""

from __future__ import annotations

import json
import math

import pytest

from neurosearch.core.query import Query
from neurosearch.core.runtime import Runtime
from neurosearch.data.beir import Beir
from neurosearch.query.words import Words

TITLES = (
    *["wireless doorbell chime"] * 6,
    *["door bell button"] * 2,  # fewer than three products: no pair
    *["key pad lock"] * 3,
    *["keypad entry"] * 1,
    *["led lamp", "led strip", "lamp shade"] * 20,
    *["60w ledlamp"] * 1,
    *["tool box"] * 3,
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("compounds")
    (folder / "qrels").mkdir()
    products = [{"_id": f"p{n:03d}", "title": t, "text": ""} for n, t in enumerate(TITLES)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, products)))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "lamp"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tp010\t1\n")
    return Beir(path=str(folder)).dataset()


def read(shop, runtime: Runtime, text: str, **options: object) -> Query:
    (query,) = Words(**options).fitted(shop).reader(runtime).read([text])
    return query


def test_two_words_are_joined(shop, shop_runtime: Runtime) -> None:
    query = read(shop, shop_runtime, "Door Bell white")
    # No pair of three products or more: all six have the joined form.
    assert query.text == "doorbell white" and query.words == "Door Bell white"
    assert [(t.token, t.weight) for t in query.terms] == [("doorbel", 0.5)]
    assert query.notes[0].why == "Door Bell → doorbell"


def test_a_word_is_split_where_its_halves_stand_together(shop, shop_runtime: Runtime) -> None:
    query = read(shop, shop_runtime, "keypad for gate")
    # Three products have `key pad`, one `keypad`, so encoders read what was typed.
    assert query.text == "keypad for gate"
    assert {t.token: t.weight for t in query.terms} == {"key": 0.375, "pad": 0.375}
    assert read(shop, shop_runtime, "red toolbox").text == "red tool box"
    assert math.log(3 * len(TITLES) / 9) >= 3.0 > math.log(20 * len(TITLES) / 40**2)


def test_chance_neighbours_and_others_stay(shop, shop_runtime: Runtime) -> None:
    for text in ("led lamp", "lampled", "door, bell", "the gate", "60 w", ""):
        assert read(shop, shop_runtime, text) == Query.of(text)
    assert read(shop, shop_runtime, "door bell", products=7) == Query.of("door bell")
    assert read(shop, shop_runtime, "keypad", pmi=9.0) == Query.of("keypad")


def test_twice_is_once(shop, shop_runtime: Runtime) -> None:
    step = Words().fitted(shop).step(shop_runtime)
    for text in ("door bell keypad toolbox", "doorbell", "keypad door bell"):
        once = step(Query.of(text))
        again = step(once)
        assert (again.text, again.terms) == (once.text, once.terms)
