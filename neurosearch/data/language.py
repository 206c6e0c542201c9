"""Languages of catalogues, and the Snowball stemmer of each."""

from __future__ import annotations

LOCALES = {"us": "english", "es": "spanish", "jp": "japanese"}  # of Amazon ESCI
SEVERAL = "several languages"  # of a catalogue, each with an analyser of its own
# Several algorithms stem English; Japanese, Chinese and Korean words become bigrams, unstemmed.
ENGLISH = ("english", "porter", "lovins")
KUROMOJI = "kuromoji"  # Lucene's morphological analyser of Japanese
UNSTEMMED = ("japanese", "chinese", "korean")


def stemmer_of(language: str) -> str:
    """The stemmer of a language, or `none`."""
    import Stemmer

    known = language not in UNSTEMMED and language in Stemmer.algorithms()
    return language if known else "none"


def stems(stemmer: str, language: str) -> bool:
    """Whether a stemmer is one of a language, or none."""
    if stemmer == "none":
        return True
    if stemmer == KUROMOJI:
        return language == "japanese"
    return stemmer in ENGLISH if language == "english" else stemmer == language
