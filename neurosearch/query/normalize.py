"""Normalisation: NFKC, lower case, folding by language, units, white space.

Model numbers and negations stay as they are. Units are brought to one spelling next to a
number (`12 ounces`, `12oz` and `12 oz.` become `12 oz`; `5"` and `5 inches` become `5 in`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from neurosearch.core.query import QueryProcessor
from neurosearch.query.fold import fold

_UNITS = {
    "oz": r"oz|ounces?",
    "in": r"in|inch(?:es)?",
    "ft": r"ft|feet|foot",
    "lb": r"lbs?|pounds?",
    "gal": r"gal|gallons?",
    "mm": r"mm|millimet(?:er|re)s?",
    "cm": r"cm|centimet(?:er|re)s?",
    "ml": r"ml|millilit(?:er|re)s?",
    "w": r"w|watts?",
    "v": r"v|volts?",
}
_PATTERNS = [
    (re.compile(rf"(?<![\w.])(\d+(?:[./]\d+)*)[\s-]*(?:{words})(?![\w/'\"])\.?"), rf"\1 {unit} ")
    for unit, words in _UNITS.items()
]
_MARKS = [
    (re.compile(r"(\d)\s*(?:\"|''|″)"), r"\1 in "),
    (re.compile(r"(\d)\s*(?:'|′)(?!\w)"), r"\1 ft "),
]
_TRADEMARKS = re.compile("[®™©]")


@dataclass(frozen=True)
class Normalize(QueryProcessor):
    """Attributes:
    units: bring units of measure to one spelling.
    language: as its stemmer is called; letters of its own stay (`fold`).
    """

    units: bool = True
    language: str = "english"

    def process(self, texts: list[str]) -> list[str]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> str:
        result = _TRADEMARKS.sub("", text)
        lowered = fold(result.lower(), self.language).lower()
        result = fold(lowered, self.language)  # folding may give capitals: ㍱ is hPa
        if self.units:
            for pattern, spelling in (*_MARKS, *_PATTERNS):
                result = pattern.sub(spelling, result)
        return " ".join(result.split()) or text
