"""Query normalisation: units, folding, idempotence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.query.none import NoProcessing
from neurosearch.query.normalize import Normalize


@pytest.mark.parametrize(
    "text, expected",
    [
        ("12oz Mug", "12 oz mug"),
        ("12 ounces mug", "12 oz mug"),
        ('5" bolt', "5 in bolt"),
        ("5 inches", "5 in"),
        ("3/4 inch pipe", "3/4 in pipe"),
        ("6' ladder", "6 ft ladder"),
        ("Café™  Table", "cafe table"),
        ('4"x4" post', "4 in x4 in post"),
        ("2 w/ cover", "2 w/ cover"),
        ("100 w/o light", "100 w/o light"),
        ("ガラス", "ガラス"),
        ("WH-1000XM4", "wh-1000xm4"),
        ("mug without lid", "mug without lid"),
        ("™", "™"),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert Normalize().process([text]) == [expected]


@given(st.text(max_size=40))
def test_it_is_idempotent_and_empties_nothing(text: str) -> None:
    (once,) = Normalize().process([text])
    assert Normalize().process([once]) == [once]
    assert bool(once.strip()) >= bool(text.strip())


def test_units_can_be_left_alone_and_none_is_none() -> None:
    assert Normalize(units=False).process(["12OZ"]) == ["12oz"]
    assert NoProcessing().process(["12OZ "]) == ["12OZ "]
