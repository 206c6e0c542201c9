"""Compounds: words that a query joins and products don't, or the other way round.

`door bell` looks up `doorbell` too, where products have that word; `keypad` looks up `key` and
`pad`, where these stand together in products more often than chance would have it:

    PMI(a, b) = log[n(a b) · N / (n(a) · n(b))] ≥ pmi

with n the number of products that have a word, or two words side by side, of N. The other form's
weight is `weight` times its share of the products that have either form. A form that no product has
is replaced by the other one in what encoders read.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.query import Query, Reader, Term
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.fold import fold
from neurosearch.query.learning import LearningStep
from neurosearch.query.vocabulary import WORD, words_of

Pair = tuple[str, str]


@dataclass(frozen=True)
class Compounds:
    """What a catalogue has: words of letters, and which of them are two others side by side.

    Attributes:
        words: products that have a word.
        pairs: by the joined form, the two words side by side that most products have, and how many.
    """

    words: dict[str, int]
    pairs: dict[str, tuple[Pair, int]]


@dataclass(frozen=True)
class Words(LearningStep):
    """Attributes:
    weight: of the other form, where no product has the typed one.
    products: that have the other form, at least.
    pmi: of the two words of a split, at least.
    shortest: letters of either half, at least.
    fields: of products.
    analyzer: of the lexical systems.
    """

    weight: float = setting(0.5, above=0)
    products: int = setting(3, least=1)
    pmi: float = 3.0
    shortest: int = setting(3, least=1)
    fields: tuple[str, ...] = ("title", "brand")
    analyzer: Analyzer = field(default_factory=Analyzer)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("query.fields", self.fields)

    def learn(self, data: Dataset, read: Reader, folder: Path, runtime: Runtime) -> dict[str, Any]:
        words: Counter[str] = Counter()
        pairs: Counter[Pair] = Counter()
        for texts in data.catalogue.texts(self.fields):
            for text in texts:
                found = words_of(text, self.analyzer.stemmer)
                words.update({word for word in found if word.isalpha()})
                pairs.update({p for p in itertools.pairwise(found) if self._is_compound(*p)})
        total = len(data.catalogue)
        kept = [
            (left, right, count)
            for (left, right), count in pairs.items()
            if count >= self.products
            and math.log(count * total / (words[left] * words[right])) >= self.pmi
        ]
        frame = pl.DataFrame({"word": list(words), "products": list(words.values())})
        frame.sort("word").write_parquet(folder / "words.parquet")
        schema = {"left": pl.String, "right": pl.String, "products": pl.Int64}
        table = pl.DataFrame(kept, schema, orient="row").sort("left", "right")
        table.write_parquet(folder / "pairs.parquet")
        return {"words": frame.height, "pairs": table.height}

    def _is_compound(self, left: str, right: str) -> bool:
        return left.isalpha() and right.isalpha() and min(len(left), len(right)) >= self.shortest

    def load(self, folder: Path) -> Compounds:
        words = dict(pl.read_parquet(folder / "words.parquet", glob=False).iter_rows())
        pairs: dict[str, tuple[Pair, int]] = {}
        for left, right, count in pl.read_parquet(folder / "pairs.parquet", glob=False).iter_rows():
            if count > pairs.get(left + right, (("", ""), 0))[1]:
                pairs[left + right] = (left, right), count
        return Compounds(words, pairs)

    def rewriter(self, learnt: Compounds) -> Callable[[Query], Query]:
        tokenizer = self.analyzer.tokenizer()

        def rewrite(query: Query) -> Query:
            found = list(WORD.finditer(query.text))
            words = [fold(match.group().lower(), self.analyzer.stemmer) for match in found]
            terms: list[Term] = []
            why: list[str] = []
            changes: dict[tuple[int, int], str] = {}

            def other(begin: int, end: int, new: str, share: float) -> None:
                """Look up another form of the typed text from begin to end."""
                if share == 1:
                    changes[begin, end] = new
                why.append(f"{query.text[begin:end]} → {new}")
                terms.extend(Term(token, self.weight * share) for token in tokenizer.tokens(new))

            places = list(zip(found, words, strict=True))
            for match, word in places:
                if word in learnt.pairs:
                    pair, count = learnt.pairs[word]
                    other(*match.span(), " ".join(pair), _share(count, learnt.words.get(word, 0)))
            for (first, left), (second, right) in itertools.pairwise(places):
                count = learnt.words.get(left + right, 0)
                between = query.text[first.end() : second.start()]
                if between == " " and self._is_compound(left, right) and count >= self.products:
                    pair, beside = learnt.pairs.get(left + right, (("", ""), 0))
                    typed = beside if pair == (left, right) else 0
                    other(first.start(), second.end(), left + right, _share(count, typed))
            tokens = set(tokenizer.tokens(query.words))
            new = [term for term in terms if term.token not in tokens]
            text = _changed(query.text, changes)
            return query.rewritten("words", text, terms=new, why=", ".join(why))

        return rewrite


def _share(count: int, typed: int) -> float:
    return count / (count + typed)


def _changed(text: str, changes: dict[tuple[int, int], str]) -> str:
    """The text with the changes that don't overlap, the first ones before later ones."""
    parts, place = [], 0
    for (begin, end), new in sorted(changes.items()):
        if begin >= place:
            parts += [text[place:begin], new]
            place = end
    return "".join([*parts, text[place:]])
