"""Spelling correction from the catalogue's words and train queries.

A word of letters alone that neither the catalogue nor a train query has, nor its stem, is compared
with the catalogue's words (Damerau's errors, weighted; candidates by SymSpell's deletions) and with
its splits into two of them. The best by

    log P(c) - distance_weight · d(typed, c) + context_weight · Σ log[P(c | neighbour) / P(c)]

replaces it in what encoders read; lexical systems keep the typed word and add the correction.
Digits, units, model numbers, words in double quotes and known words stay as they are.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.query import Query, Reader, Term
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.distance import EDIT, deletions, weighted_distance
from neurosearch.query.fold import fold
from neurosearch.query.learning import LearningStep, train_texts
from neurosearch.query.vocabulary import WORD, Vocabulary, words_of

KEPT = re.compile(r'"[^"]*"')
SHORT = 4  # letters up to which a word may be one edit away, not two


@dataclass(frozen=True)
class Spelling(LearningStep):
    """Attributes:
    mode: `add` the correction for lexical systems, or `replace` the word there too.
    weight: of an added correction.
    fields: of products whose words are right.
    shortest: letters of a word that may be corrected.
    asked: train queries that have a word which no product has, for it to be right.
    most, most_short: weighted distance at most; for words of up to four letters.
    distance_weight, context_weight: see above.
    margin: by which the best correction must be better than the second.
    split_count: products that have each half of a split word, at least.
    analyzer: of the lexical systems.
    """

    mode: str = setting("add", choices=("add", "replace"))
    weight: float = setting(0.75, above=0)
    fields: tuple[str, ...] = ("title", "brand")
    shortest: int = setting(3, least=2)
    asked: int = setting(3, least=1)
    most: float = setting(2.3, above=0)
    most_short: float = setting(1.3, above=0)
    distance_weight: float = setting(5.0, least=0)
    context_weight: float = setting(0.5, least=0)
    margin: float = setting(0.0, least=0)
    split_count: int = setting(20, least=1)
    analyzer: Analyzer = field(default_factory=Analyzer)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("query.fields", self.fields)

    def learn(self, data: Dataset, read: Reader, folder: Path, runtime: Runtime) -> dict[str, Any]:
        products: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()

        def note(text: str) -> list[str]:
            words = words_of(text, self.analyzer.stemmer)
            counts.update(words)
            pairs.update(itertools.pairwise(words))
            return words

        for texts in data.catalogue.texts(self.fields):
            for text in texts:
                products.update(set(note(text)))
        queries = train_texts(data)
        for text in read.texts(queries):
            note(text)
        words = sorted(w for w in counts if products[w] or counts[w] >= self.asked)
        number = {word: place for place, word in enumerate(words)}
        pl.DataFrame(
            {
                "word": words,
                "products": [products[w] for w in words],
                "count": [counts[w] for w in words],
            }
        ).write_parquet(folder / "words.parquet")
        kept = {pair: n for pair, n in pairs.items() if pair[0] in number and pair[1] in number}
        pl.DataFrame(
            {
                "left": [number[a] for a, _ in kept],
                "right": [number[b] for _, b in kept],
                "count": list(kept.values()),
            }
        ).write_parquet(folder / "pairs.parquet")
        proposed = [word for word in words if products[word] >= 2 and word.isalpha()]
        keys = [(key, number[word]) for word in proposed for key in deletions(word, 2)]
        index = np.array(sorted(keys), dtype=np.int64).reshape(-1, 2)
        np.savez(folder / "deletions.npz", keys=index[:, 0], words=index[:, 1])
        if not queries:
            runtime.say("spelling: no train queries; learnt from the catalogue alone")
        return {"words": len(words), "proposed": len(proposed), "train queries": len(queries)}

    def load(self, folder: Path) -> Vocabulary:
        words = pl.read_parquet(folder / "words.parquet", glob=False)
        pairs = pl.read_parquet(folder / "pairs.parquet", glob=False)
        stored = np.load(folder / "deletions.npz")
        return Vocabulary(words, pairs, stored["keys"], stored["words"], self.analyzer)

    def rewriter(self, learnt: Vocabulary) -> Callable[[Query], Query]:
        tokenizer = self.analyzer.tokenizer()

        def corrected(text: str) -> dict[tuple[int, int], str]:
            kept = [match.span() for match in KEPT.finditer(text)]
            found = list(WORD.finditer(text))
            words = [fold(match.group().lower(), self.analyzer.stemmer) for match in found]
            changes = {}
            for place, match in enumerate(found):
                inside = any(a <= match.start() < b for a, b in kept)
                if inside or _is_part(text, match) or not self._is_wrong(words[place], learnt):
                    continue
                around = words[place - 1 : place], words[place + 1 : place + 2]
                better = self._best(words[place], around, learnt)
                if better is not None:
                    changes[match.span()] = better
            return changes

        def rewrite(query: Query) -> Query:
            changes = corrected(query.text)
            if not changes:
                return query
            text = _replaced(query.text, changes)
            why = ", ".join(f"{query.text[a:b]} → {new}" for (a, b), new in changes.items())
            if self.mode == "replace":
                same = query.words == query.text
                words = text if same else _replaced(query.words, corrected(query.words))
                return query.rewritten("spelling", text, words, why=why)
            tokens = dict.fromkeys(
                token for new in changes.values() for token in tokenizer.tokens(new)
            )
            terms = [Term(token, self.weight) for token in tokens]
            return query.rewritten("spelling", text, terms=terms, why=why)

        return rewrite

    def _is_wrong(self, word: str, known: Vocabulary) -> bool:
        letters = word.isalpha() and word.isascii()
        return letters and len(word) >= self.shortest and not known.has(word)

    def _best(
        self, word: str, around: tuple[list[str], list[str]], known: Vocabulary
    ) -> str | None:
        """The correction, or None where there is none, or no clear one."""
        most = self.most_short if len(word) <= SHORT else self.most
        scored = []
        for other in known.near(word, 1 if len(word) <= SHORT else 2):
            distance = weighted_distance(word, other, most)
            if math.isfinite(distance):
                context = known.context(other, *around)
                score = known.log_share(other) - self.distance_weight * distance
                scored.append((score + self.context_weight * context, other))
        for cut in range(2, len(word) - 1):
            left, right = word[:cut], word[cut:]
            if min(known.products(left), known.products(right)) > self.split_count:
                context = known.context(left, around[0], [right]) + known.context(
                    right, [], around[1]
                )
                score = known.log_share(left) + known.log_share(right) - self.distance_weight * EDIT
                scored.append((score + self.context_weight * context, f"{left} {right}"))
        scored.sort(key=lambda pair: (-pair[0], pair[1]))
        if not scored or (len(scored) > 1 and scored[0][0] - scored[1][0] < self.margin):
            return None
        return scored[0][1]


def _is_part(text: str, match: re.Match[str]) -> bool:
    """Whether a word is part of a longer name, such as `wh-1000xm4` or `3/4`."""
    around = text[max(0, match.start() - 1) : match.start()] + text[match.end() : match.end() + 1]
    return any(mark in around for mark in "-/.&'")


def _replaced(text: str, changes: dict[tuple[int, int], str]) -> str:
    for (begin, end), new in sorted(changes.items(), reverse=True):
        text = text[:begin] + new + text[end:]
    return text
