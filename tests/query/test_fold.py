"""Folding by language: letters of its own stay, in products, queries and every step alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.query.analyzer import Analyzer
from neurosearch.query.fold import OWN, fold
from neurosearch.query.normalize import Normalize
from neurosearch.query.vocabulary import words_of


@pytest.mark.parametrize(
    "language, text, folded",
    [
        ("english", "año café", "ano cafe"),
        ("spanish", "año café lámpara", "año cafe lampara"),
        ("swedish", "hår café", "hår cafe"),
        ("german", "küche straße", "kuche straße"),
        ("none", "ガラス é", "ガラス e"),
    ],
)
def test_letters_of_a_language_stay(language: str, text: str, folded: str) -> None:
    assert fold(text, language) == folded
    assert words_of(text, language) == words_of(folded, language)


def test_spanish_words_are_apart_where_their_letters_are() -> None:
    spanish, english = (Analyzer(stemmer=how).tokenizer() for how in ("spanish", "english"))
    assert spanish.tokens("AÑO") != spanish.tokens("ano")
    assert english.tokens("año") == english.tokens("ano")
    # Accents are no letters: with and without them, in one number or the other.
    assert spanish.tokens("habitación") == spanish.tokens("habitaciones")
    assert spanish.tokens("lámparas") == spanish.tokens("lampara")


@given(st.text(max_size=30), st.sampled_from([*OWN, "english"]))
def test_normalising_changes_no_token(text: str, language: str) -> None:
    """A query that was normalised first is looked up by the same words."""
    (once,) = Normalize(units=False, language=language).process([text])
    assert Normalize(units=False, language=language).process([once]) == [once]
    assert fold(fold(text.lower(), language), language) == fold(text.lower(), language)
