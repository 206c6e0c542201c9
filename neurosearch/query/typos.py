"""Planted typing errors: one in each query, to measure what they cost and what a correction saves.

Not for use: `query=chain query.order=[typos,spelling]` against `query.order=[]`. What is planted is
a function of the seed and the text.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.query import QueryProcessor
from neurosearch.query.distance import key_neighbours

KINDS = ("substitution", "deletion", "insertion", "transposition")
LETTERS = re.compile(r"(?<![\w/.&'-])[A-Za-z]+(?![\w/.&'-])")


@dataclass(frozen=True)
class Typos(QueryProcessor):
    """Attributes:
    kind: substitution (by a key beside it), deletion, insertion (of such a key), transposition (of
        two letters), or `any` of them.
    shortest: letters of a word that may get an error.
    """

    kind: str = setting("any", choices=(*KINDS, "any"))
    shortest: int = setting(4, least=2)
    seed: int = 0

    planted: ClassVar[bool] = True

    def process(self, texts: list[str]) -> list[str]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> str:
        words = [m for m in LETTERS.finditer(text) if len(m.group()) >= self.shortest]
        if not words:
            return text
        rng = np.random.default_rng([self.seed, zlib.crc32(text.encode())])
        match = words[rng.integers(len(words))]
        kind = KINDS[rng.integers(len(KINDS))] if self.kind == "any" else self.kind
        return text[: match.start()] + mistyped(match.group(), kind, rng) + text[match.end() :]


def mistyped(word: str, kind: str, rng: np.random.Generator) -> str:
    """The word with one error; itself where a transposition can change nothing."""
    place = int(rng.integers(len(word)))
    near = sorted(key_neighbours(word[place].lower()))
    other = near[rng.integers(len(near))]
    if kind == "deletion":
        return word[:place] + word[place + 1 :]
    if kind == "insertion":
        return word[:place] + other + word[place:]
    if kind == "substitution":
        return word[:place] + other + word[place + 1 :]
    places = [n for n in range(len(word) - 1) if word[n] != word[n + 1]]
    if not places:
        return word
    place = places[rng.integers(len(places))]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
