"""Normalisation (METHODS 12.1): NFKC, lower case, ASCII folding, units, white space.

Model numbers and negations stay as they are. Units are brought to one spelling next to a
number (`12 ounces`, `12oz` and `12 oz.` become `12 oz`; `5"` and `5 inches` become `5 in`).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from neurosearch.query.base import QueryProcessor

_UNITS = {
    "oz": r"oz|ounces?",
    "in": r"in|inch(?:es)?|\"|''|″",
    "ft": r"ft|feet|foot|'|′",
    "lb": r"lbs?|pounds?",
    "gal": r"gal|gallons?",
    "mm": r"mm|millimet(?:er|re)s?",
    "cm": r"cm|centimet(?:er|re)s?",
    "ml": r"ml|millilit(?:er|re)s?",
    "w": r"w|watts?",
    "v": r"v|volts?",
}
_PATTERNS = [
    (re.compile(rf"(?<![\w.])(\d+(?:[./]\d+)*)[\s-]*(?:{words})(?![\w'\"])\.?"), rf"\1 {unit} ")
    for unit, words in _UNITS.items()
]
_TRADEMARKS = re.compile("[®™©]")


@dataclass(frozen=True)
class Normalize(QueryProcessor):
    """`units`: bring units of measure to one spelling."""

    units: bool = True

    def process(self, texts: list[str]) -> list[str]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> str:
        result = _TRADEMARKS.sub("", text)
        result = unicodedata.normalize("NFKD", result).lower()
        result = "".join(c for c in result if not unicodedata.combining(c))
        if self.units:
            for pattern, spelling in _PATTERNS:
                result = pattern.sub(spelling, result)
        return " ".join(result.split()) or text
