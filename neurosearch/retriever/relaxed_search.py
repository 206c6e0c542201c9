"""The stages of a relaxed search (see `relaxed`): which products have a query's terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurosearch.core.query import Query, Reader
from neurosearch.core.retrieval import Searcher
from neurosearch.query.analyzer import Tokenizer
from neurosearch.query.lexical import Words, weighted
from neurosearch.retriever.feedback import LiveTerms


class Postings:
    """Which products have a term."""

    def __init__(self, terms: LiveTerms) -> None:
        self._columns = terms.counts.tocsc()
        self._number = {name: place for place, name in enumerate(terms.names)}
        self.products = int(terms.counts.shape[0])

    def of(self, token: str) -> np.ndarray:
        """Rows that have it, ascending."""
        place = self._number.get(token)
        if place is None:
            return np.empty(0, np.int64)
        begin, end = self._columns.indptr[place : place + 2]
        return np.sort(self._columns.indices[begin:end]).astype(np.int64)

    def met(self, needed: Sequence[str], also: Sequence[str] = ()) -> np.ndarray:
        """Rows where as many distinct terms are there as are needed.

        Args:
            needed: terms that count.
            also: terms that may stand in for any of them.

        Returns:
            Rows, ascending; none for no needed term.
        """
        distinct = list(dict.fromkeys([*needed, *also]))
        counts = np.zeros(self.products, np.int32)
        for token in distinct:
            counts[self.of(token)] += 1
        wanted = len(set(needed))
        return np.flatnonzero(counts >= wanted) if wanted else np.empty(0, np.int64)


@dataclass(frozen=True)
class Staged:
    """Rows, best first, the stage that found each, the products of stage 1, the last stage."""

    rows: np.ndarray
    stages: np.ndarray
    strict: int
    last: int


@dataclass(frozen=True)
class RelaxedSearcher:
    """See `Relaxed`. `live`: of BM25. `other`: of the fallback."""

    least: int
    live: Any
    terms: LiveTerms
    query: Reader
    tokenizer: Tokenizer
    other: Searcher | None

    def search(self, texts: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        lists = [self.staged(query, k).rows for query in self.query.read(texts)]
        if self.other is not None:
            found, _ = self.other.search(texts, k)
            lists = [completed(own, below, k) for own, below in zip(lists, found, strict=True)]
        return as_arrays(lists, k)

    def staged(self, query: Query, k: int) -> Staged:
        """What the stages find, without the fallback."""
        postings = self._postings
        (words,) = weighted(self.tokenizer, [query])
        rows, stages, strict, last = np.empty(0, np.int64), np.empty(0, np.int64), 0, 1
        for stage, found in self._stages(query, postings):
            new = self._ordered(words, np.setdiff1d(found, rows, assume_unique=True))
            rows = np.concatenate([rows, new])
            stages = np.concatenate([stages, np.full(len(new), stage)])
            last = stage
            strict = len(found) if stage == 1 else strict
            if len(rows) >= self.least:
                break
        return Staged(rows[:k], stages[:k], strict, last)

    @cached_property
    def _postings(self) -> Postings:
        return Postings(self.terms)

    def _stages(self, query: Query, postings: Postings) -> Iterator[tuple[int, np.ndarray]]:
        typed = list(dict.fromkeys(self.tokenizer.tokens(query.words)))
        read = list(dict.fromkeys(self.tokenizer.tokens(query.text)))
        also = [term.token for term in query.terms]
        yield 1, postings.met(typed)
        if read != typed:
            yield 2, postings.met(read)
        if also:
            yield 3, postings.met(read, also)
        often = {token: len(postings.of(token)) for token in read}
        rarest = sorted(read, key=lambda token: (often[token], token))
        rarest = [token for token in rarest if often[token]]  # no product has the others
        if len(rarest) < len(read) and rarest:
            yield 4, postings.met(rarest, also)
        for count in range(len(rarest) - 1, 0, -1):
            yield 4, postings.met(rarest[:count], also)

    def _ordered(self, words: Words, rows: np.ndarray) -> np.ndarray:
        """The rows by BM25, best first."""
        if not len(rows):
            return rows
        found, _ = self.live.among(words, rows)
        return np.asarray(found, dtype=np.int64)


def completed(rows: np.ndarray, below: np.ndarray, k: int) -> np.ndarray:
    """A list, and behind it the products of another one that it does not have.

    Args:
        rows: best first.
        below: best first, -1 padded.
        k: length of the result, at most.

    Returns:
        Rows, best first.
    """
    rest = below[(below >= 0) & ~np.isin(below, rows)]
    return np.concatenate([rows, rest])[:k]


def as_arrays(lists: Sequence[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranked rows as Q×k arrays; scores are 1/rank, for stages' scores have no common scale.

    Args:
        lists: rows of each query, best first.
        k: of the arrays.

    Returns:
        Q×k rows (-1 padded) and scores.
    """
    rows = np.full((len(lists), k), -1, dtype=np.int64)
    scores = np.full((len(lists), k), -np.inf, dtype=np.float32)
    for number, own in enumerate(lists):
        rows[number, : len(own)] = own
        scores[number, : len(own)] = 1 / np.arange(1, len(own) + 1)
    return rows, scores
