"""The analyser of lexical retrieval: one tokenisation for every BM25 engine.

Lower-cased words without accents; model numbers kept whole and split (`WH-1000XM4` gives
wh-1000xm4, wh, 1000xm4); numbers joined to their unit (`12 oz` gives 12oz beside 12 and oz);
a Snowball stemmer; bigrams for Japanese, Chinese and Korean, or Lucene's analyser of Japanese.
Stop-words stay by default: in products "without" and "for" carry intent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.data.base import Data
from neurosearch.data.language import KUROMOJI, stemmer_of, stems
from neurosearch.query.fold import fold

_WORD = re.compile(r"[^\W_]+(?:[-/.][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_UNIT = re.compile(
    r"(?<![a-z0-9./-])(\d+(?:\.\d+)?)[ -]?"
    r"(oz|in|ft|lb|lbs|gal|mm|cm|ml|qt|pt|yd|amp|amps|watt|watts|volt|volts|w|v|pk|pc|pcs)\b"
)
_STOPWORDS = frozenset(
    re.findall(r"\w+", "a an and are as at be by for from in is it of on or that the this to with")
)


def _unsegmented(word: str) -> tuple[str, ...]:
    """Other scripts have no stemmer here: bigrams for those without spaces, else the word."""
    if any("\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3" for c in word) and len(word) > 2:
        return tuple(word[i : i + 2] for i in range(len(word) - 1))
    return (word,)


@dataclass(frozen=True)
class Analyzer(Recipe):
    """`stemmer`: a Snowball language ("english", "porter", "german"…), "none", or "kuromoji":
    Lucene's morphological analyser for Japanese words (needs Java)."""

    stemmer: str = "english"
    keep_stopwords: bool = True
    model_numbers: bool = True
    units: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        import Stemmer

        if self.stemmer not in ("none", KUROMOJI, *Stemmer.algorithms()):
            known = ", ".join(sorted(Stemmer.algorithms()))
            raise InputError(f"analyzer.stemmer must be none, {KUROMOJI} or one of {known}")

    def tokenizer(self) -> Tokenizer:
        """A tokenizer with its own cache of stemmed words."""
        return Tokenizer(self)


def check_stemmers(data: Data, *recipes: Any) -> None:
    """Raise InputError for a recipe whose analyser stems another language than the data's."""
    whole = data.language or data.own_language()
    for analyzer, language in (one for recipe in recipes for one in _analyzers_of(recipe, whole)):
        if not stems(analyzer.stemmer, language):
            fitting = f"stemmer={stemmer_of(language)}"
            message = f"an analyzer stems {analyzer.stemmer}: say {fitting} (or data.language=…)"
            raise InputError(f"the data is {language}, and {message}")


def _analyzers_of(value: Any, language: str) -> Iterator[tuple[Analyzer, str]]:
    """Analysers, and the language of what each reads (`language_of` a member, where it has one)."""
    if isinstance(value, Analyzer):
        yield value, language
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _analyzers_of(item, language)
    elif hasattr(value, "language_of"):
        for name, member in value.members.items():
            yield from _analyzers_of(member, value.language_of(name) or language)
    elif isinstance(value, Recipe):
        for spec in fields(value):
            yield from _analyzers_of(getattr(value, spec.name), language)


class Tokenizer:
    """Texts to tokens. Every distinct word is split and stemmed once."""

    def __init__(self, analyzer: Analyzer) -> None:
        import Stemmer

        self._recipe = analyzer
        self._stem = None
        if analyzer.stemmer not in ("none", KUROMOJI):
            self._stem = Stemmer.Stemmer(analyzer.stemmer).stemWord
        self._cache: dict[str, tuple[str, ...]] = {}

    def __call__(self, texts: Iterable[str]) -> list[list[str]]:
        return [self.tokens(text) for text in texts]

    def tokens(self, text: str) -> list[str]:
        lowered = fold(text.lower(), self._recipe.stemmer)
        tokens: list[str] = []
        cache = self._cache
        for word in _WORD.findall(lowered):
            known = cache.get(word)
            if known is None:
                known = cache[word] = self._split(word)
            tokens.extend(known)
        if self._recipe.units:
            tokens.extend(number + unit for number, unit in _UNIT.findall(lowered))
        return tokens

    def _split(self, word: str) -> tuple[str, ...]:
        if not self._recipe.keep_stopwords and word in _STOPWORDS:
            return ()
        if not word.isascii():
            if self._recipe.stemmer == KUROMOJI and any("\u3040" <= c <= "\u9fff" for c in word):
                from neurosearch.query.japanese import segmenter

                return segmenter()(word)
            return _unsegmented(word)
        parts = _PART.findall(word)
        tokens = [self._stem(part) if self._stem else part for part in parts]
        # A compound of plain words (stainless-steel) is its parts; one with digits is a name.
        if len(parts) > 1 and self._recipe.model_numbers and any(c.isdigit() for c in word):
            tokens.insert(0, word)
        return tuple(tokens)
