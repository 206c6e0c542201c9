"""What lexical systems look up of queries: analysed tokens and their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from neurosearch.core.query import Query
from neurosearch.query.analyzer import Tokenizer

Words = Mapping[str, float]  # a token's weight: how often it stands in the query, or a term's own


def weighted(tokenizer: Tokenizer, queries: Sequence[Query]) -> list[Words]:
    """Tokens of each query's words, and its further terms, with their weights."""
    found: list[Words] = []
    for query in queries:
        words: dict[str, float] = dict(Counter(tokenizer.tokens(query.words)))
        for term in query.terms:
            words[term.token] = words.get(term.token, 0.0) + term.weight
        found.append(words)
    return found
