"""Folding of letters, the same for queries and documents."""

from __future__ import annotations

import unicodedata


def fold(text: str) -> str:
    """NFKC, with accents taken off Latin letters (é to e) and no others (ガ stays ガ)."""
    if text.isascii():
        return text
    plain = []
    for character in unicodedata.normalize("NFKC", text):
        parts = unicodedata.normalize("NFKD", character)
        latin = parts[0].isascii() and parts[0].isalpha()
        plain.append(parts[0] if latin else character)
    return "".join(plain)
