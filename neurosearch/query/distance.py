"""How far a typed word is from a meant one: optimal string alignment with weights of typing errors.

Restricted Damerau-Levenshtein distance (no substring is edited twice): a letter is left out, added,
replaced, or swapped with its neighbour. What fingers and ears confuse costs less.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # of a keyboard; each is shifted by half a key
VOWELS = frozenset("aeiouy")
NEIGHBOUR, VOWEL, SWAP, DOUBLE, EDIT, REPLACE, FIRST = 0.8, 0.7, 0.7, 0.6, 1.0, 1.2, 0.3
PREFIX = 7  # letters whose deletions find candidates


@cache
def _neighbours() -> frozenset[tuple[str, str]]:
    at = {
        key: (place + 0.5 * row, row)
        for row, keys in enumerate(ROWS)
        for place, key in enumerate(keys)
    }
    near = [
        (a, b)
        for a, (x, y) in at.items()
        for b, (u, v) in at.items()
        if a != b and abs(x - u) <= 1 and abs(y - v) <= 1
    ]
    return frozenset(near)


def key_neighbours(letter: str) -> frozenset[str]:
    """The letters on the keys around a letter's."""
    return frozenset(b for a, b in _neighbours() if a == letter)


def weighted_distance(typed: str, meant: str, most: float = float("inf")) -> float:
    """Cost of typing `typed` for `meant`; infinite as soon as it is known to be above `most`."""
    near = _neighbours()
    before: list[float] = []
    row = [0.0]
    for place, letter in enumerate(meant):
        row.append(row[-1] + _added(meant, place, letter))
    for i, a in enumerate(typed, 1):
        older, before, row = before, row, [row[0] + _added(typed, i - 1, a)]
        for j, b in enumerate(meant, 1):
            cost = 0.0 if a == b else _replaced(a, b, near)
            best = min(
                before[j - 1] + cost,
                before[j] + _added(typed, i - 1, a),
                row[j - 1] + _added(meant, j - 1, b),
            )
            if i > 1 and j > 1 and a != b and a == meant[j - 2] and typed[i - 2] == b:
                best = min(best, older[j - 2] + SWAP)
            row.append(best)
        if min(row) > most and (not before or min(before) > most):
            return float("inf")
    total = row[-1] + (FIRST if typed[:1] != meant[:1] else 0.0)
    return total if total <= most else float("inf")


def _added(word: str, place: int, letter: str) -> float:
    return DOUBLE if place and word[place - 1] == letter else EDIT


def _replaced(a: str, b: str, near: frozenset[tuple[str, str]]) -> float:
    if a in VOWELS and b in VOWELS:
        return VOWEL
    return NEIGHBOUR if (a, b) in near else REPLACE


def deletions(word: str, most: int) -> Iterator[int]:
    """Digests of the word's first letters with up to `most` of them left out.

    Words within `most` edits of each other share one (SymSpell: Garbe 2012).
    """
    seen = {word[:PREFIX]}
    last = seen
    for _ in range(most):
        last = {text[:n] + text[n + 1 :] for text in last for n in range(len(text))}
        seen = seen | last
    return (zlib.crc32(text.encode()) for text in seen)
