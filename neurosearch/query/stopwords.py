"""Stop words taken from what lexical systems look up. Not on by default: BM25 weighs them little.

Words that carry meaning between products stay whatever the list says: negations (*no*, *not*,
*without*), and *in*, which is an inch, or a place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from neurosearch.core.query import Query, QueryProcessor
from neurosearch.core.runtime import Runtime
from neurosearch.query.fold import fold

# Lucene's English list.
LUCENE = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their "
        "then there these they this to was will with",
    )
)
KEPT = frozenset({"no", "not", "non", "without", "in"})


@dataclass(frozen=True)
class Stopwords(QueryProcessor):
    """`words`: those that are taken out; none for Lucene's English list."""

    words: tuple[str, ...] = ()

    def step(self, runtime: Runtime) -> Callable[[Query], Query]:
        listed = frozenset(fold(word.lower()) for word in self.words) or LUCENE
        removed = listed - KEPT

        def rewrite(query: Query) -> Query:
            kept = [word for word in query.words.split() if fold(word.lower()) not in removed]
            words = " ".join(kept) or query.words  # a query of stop words alone stays
            if len(kept) == len(query.words.split()):
                return query
            gone = [word for word in query.words.split() if word not in kept]
            return query.rewritten("stopwords", words=words, why=f"without {', '.join(gone)}")

        return rewrite
