"""Words of a catalogue and its train queries: how often they occur, alone and as neighbours."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
import polars as pl

from neurosearch.query.analyzer import Analyzer
from neurosearch.query.distance import deletions
from neurosearch.query.fold import fold

WORD = re.compile(r"[^\W_]+")
PRIOR = 10.0  # observations that a neighbour's counts are smoothed with


def words_of(text: str, language: str = "english") -> list[str]:
    """Lower-cased words of letters and digits, folded by the rules of a language (`fold`)."""
    return WORD.findall(fold(text.lower(), language))


class Vocabulary:
    """Words of a catalogue and its train queries, how often they occur, alone and as neighbours."""

    def __init__(
        self,
        words: pl.DataFrame,
        pairs: pl.DataFrame,
        keys: np.ndarray,
        numbers: np.ndarray,
        analyzer: Analyzer,
    ) -> None:
        self._words: list[str] = words["word"].to_list()
        self._number = {word: place for place, word in enumerate(self._words)}
        self._products, self._counts = words["products"].to_numpy(), words["count"].to_numpy()
        self._total = max(1, int(self._counts.sum()))
        both = zip(pairs["left"].to_list(), pairs["right"].to_list(), strict=True)
        self._pairs = dict(zip(both, pairs["count"].to_list(), strict=True))
        self._keys, self._numbers = keys, numbers
        self._tokenizer = analyzer.tokenizer()
        self._stems = {token for word in self._words for token in self._tokenizer.tokens(word)}

    def has(self, word: str) -> bool:
        """Whether the word, or another with its stem, is known."""
        return word in self._number or any(t in self._stems for t in self._tokenizer.tokens(word))

    def products(self, word: str) -> int:
        """How many products have the word."""
        place = self._number.get(word)
        return 0 if place is None else int(self._products[place])

    def log_share(self, word: str) -> float:
        """log P(word) of a known word."""
        return math.log(max(1, self._counts[self._number[word]]) / self._total)

    def near(self, word: str, edits: int) -> list[str]:
        """Words that may be within so many edits."""
        wanted = np.array(sorted(deletions(word, edits)), dtype=np.int64)
        begin, end = (np.searchsorted(self._keys, wanted, side) for side in ("left", "right"))
        places = {
            int(n) for a, b in zip(begin, end, strict=True) for n in self._numbers[a:b].tolist()
        }
        return [
            self._words[n] for n in sorted(places) if abs(len(self._words[n]) - len(word)) <= edits
        ]

    def context(self, word: str, left: Iterable[str], right: Iterable[str]) -> float:
        """Σ log[P(word | neighbour) / P(word)] over the neighbours that are known, smoothed."""
        number = self._number[word]
        total = 0.0
        for other, is_left in [*((w, True) for w in left), *((w, False) for w in right)]:
            beside = self._number.get(other)
            if beside is None:
                continue
            pair = (beside, number) if is_left else (number, beside)
            share = max(1, int(self._counts[number])) / self._total
            seen, times = self._pairs.get(pair, 0), int(self._counts[beside])
            total += math.log((seen / share + PRIOR) / (times + PRIOR))
        return total
