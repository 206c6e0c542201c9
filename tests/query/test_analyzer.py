"""The analyser: model numbers, units, folding, stemming."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.query.analyzer import Analyzer

PLAIN = Analyzer(stemmer="none")


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("WH-1000XM4", ["wh-1000xm4", "wh", "1000xm4"]),
        ("Stainless-Steel mug", ["stainless", "steel", "mug"]),
        ("12 oz. Cup", ["12", "oz", "cup", "12oz"]),
        ("12oz", ["12oz", "12oz"]),
        ("Café", ["cafe"]),
        ("3/4 in. bolt", ["3/4", "3", "4", "in", "bolt"]),
        ("", []),
        ("!!!", []),
        ("Straße", ["straße"]),
        ("ガラス", ["ガラ", "ラス"]),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert PLAIN.tokenizer().tokens(text) == tokens


def test_the_stemmer_is_snowball_s() -> None:
    assert Analyzer().tokenizer().tokens("running shoes") == ["run", "shoe"]


def test_a_query_finds_a_model_number_however_it_is_written() -> None:
    tokens = PLAIN.tokenizer().tokens
    document = set(tokens("Sony WH-1000XM4 headphones"))
    assert set(tokens("1000xm4")) <= document
    assert set(tokens("wh-1000xm4")) <= document
    assert set(tokens("wh 1000xm4")) <= document


def test_stop_words_stay_unless_asked() -> None:
    assert PLAIN.tokenizer().tokens("the mug without lid") == ["the", "mug", "without", "lid"]
    dropped = (
        Analyzer(stemmer="none", keep_stopwords=False).tokenizer().tokens("the mug without lid")
    )
    assert dropped == ["mug", "without", "lid"]


@given(st.text(max_size=60))
def test_tokens_are_never_broken_up_by_white_space(text: str) -> None:
    """Lucene splits our tokens at white space: none may hold any, or be empty."""
    for token in Analyzer().tokenizer().tokens(text):
        assert token and token == "".join(token.split())


def test_an_unknown_stemmer_is_named() -> None:
    with pytest.raises(
        InputError, match=r"analyzer\.stemmer must be none, kuromoji or one of .*english"
    ):
        Analyzer(stemmer="klingon")
