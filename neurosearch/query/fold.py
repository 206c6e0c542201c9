"""Folding of letters, the same for queries and documents, by the rules of their language."""

from __future__ import annotations

import unicodedata

# Letters of their own, not a letter with an accent: año is no ano, hår no har.
OWN = {
    "spanish": "ñ",
    "swedish": "åäö",
    "finnish": "åäö",
    "danish": "åäö",
    "norwegian": "åäö",
}


def fold(text: str, language: str = "english") -> str:
    """NFKC, with accents taken off Latin letters (é to e) and no others (ガ stays ガ).

    Args:
        text: in lower case, where letters of a language's own are to stay.
        language: as its stemmer is called; its own letters (`OWN`) stay.

    Returns:
        The folded text.
    """
    if text.isascii():
        return text
    own = OWN.get(language, "")
    plain = []
    for character in unicodedata.normalize("NFKC", text):
        parts = unicodedata.normalize("NFKD", character)
        latin = parts[0].isascii() and parts[0].isalpha() and character not in own
        plain.append(parts[0] if latin else character)
    return "".join(plain)
