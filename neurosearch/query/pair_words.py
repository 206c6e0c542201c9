"""Words as features of a pair.

The analyser's terms of queries and titles are sparse matrices, so that every feature is a product
of their rows: coverage, coverage by IDF, BM25, terms in order, numbers in common, lengths. What
concerns titles is prepared once; queries may come one at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from neurosearch.core.ragged import offsets_of
from neurosearch.query.analyzer import Analyzer

NAMES = (
    *("coverage", "idf coverage", "title coverage", "bm25", "bigrams", "first term"),
    *("numbers asked", "numbers found", "query terms", "title terms"),
)


class Lexical:
    """Titles of a catalogue, ready to be compared with queries."""

    def __init__(self, titles: list[str], analyzer: Analyzer) -> None:
        self._analyzer = analyzer.tokenizer()
        terms = self._analyzer(titles)
        self._terms: dict[str, int] = {}
        self._couples: dict[str, int] = {}
        counts = _matrix(terms, self._terms)
        self._titles, self._size = len(titles), counts.shape[1]
        self._shown = counts.sign()
        self._idf = self._idf_of(np.asarray(self._shown.sum(axis=0)).ravel())
        self._distinct = np.asarray(self._shown.sum(axis=1)).ravel()
        length = np.asarray(counts.sum(axis=1)).ravel()
        # BM25 as Lucene has it (k1 .9, b .4): one number for every term of a title.
        weight = 0.9 * (1 - 0.4 + 0.4 * length / max(length.mean(), 1e-9))
        self._strength = counts.copy()
        self._strength.data = counts.data / (
            counts.data + np.repeat(weight, np.diff(counts.indptr))
        )
        self._bigrams = _matrix(_bigrams(terms), self._couples).sign()
        self._numbers = _digits(self._terms)
        self._first = _matrix([words[:1] for words in terms], self._terms, self._size).sign()

    def _idf_of(self, count: np.ndarray) -> np.ndarray:
        idf: np.ndarray = np.log(1 + (self._titles - count + 0.5) / (count + 0.5))
        return idf.astype(np.float32)

    def features(
        self, queries: list[str], query: np.ndarray, row: np.ndarray
    ) -> dict[str, np.ndarray]:
        """P float32 values by name, of P (query number, title row) pairs."""
        terms = self._analyzer(queries)
        # Words that no title has are columns beyond the titles' own.
        unseen: dict[str, int] = {}
        wanted = _matrix(terms, self._terms, extra=unseen).sign()
        known = wanted[:, : self._size]
        idf = np.concatenate([self._idf, self._idf_of(np.zeros(len(unseen)))])
        by_idf = wanted.multiply(idf[None, : wanted.shape[1]]).tocsr()
        query_idf = np.asarray(wanted.sum(axis=1)).ravel()
        shared_idf = _dot(known, self._shown, query, row)
        pairs: dict[str, Any] = {"coverage": shared_idf / np.maximum(query_idf[query], 1)}
        total = np.asarray(by_idf.sum(axis=1)).ravel()[query]
        known_idf = by_idf[:, : self._size]
        pairs["idf coverage"] = _dot(known_idf, self._shown, query, row) / np.maximum(total, 1e-9)
        pairs["title coverage"] = shared_idf / np.maximum(self._distinct[row], 1)
        pairs["bm25"] = _dot(known_idf, self._strength, query, row)
        new: dict[str, int] = {}
        grams = _matrix(_bigrams(terms), self._couples, extra=new).sign()
        couples = np.asarray(grams.sum(axis=1)).ravel()[query]
        shared = _dot(grams[:, : self._bigrams.shape[1]], self._bigrams, query, row)
        pairs["bigrams"] = shared / np.maximum(couples, 1)
        pairs["first term"] = _dot(known, self._first, query, row)
        digits = np.concatenate([self._numbers, _digits(unseen)])
        numbers = wanted.multiply(digits[None, : wanted.shape[1]]).tocsr()
        asked_numbers = np.asarray(numbers.sum(axis=1)).ravel()[query]
        common = _dot(numbers[:, : self._size], self._shown, query, row)
        pairs["numbers asked"] = asked_numbers
        pairs["numbers found"] = common / np.maximum(asked_numbers, 1)
        pairs["query terms"], pairs["title terms"] = query_idf[query], self._distinct[row]
        return {name: np.asarray(pairs[name], dtype=np.float32) for name in NAMES}


def _matrix(
    texts: list[list[str]],
    vocabulary: dict[str, int],
    width: int = 0,
    extra: dict[str, int] | None = None,
) -> Any:
    """N×V counts of terms (CSR float32).

    The vocabulary grows, unless new terms are to be numbered after it in `extra`; `width`: columns
    at least.
    """
    from scipy.sparse import csr_matrix

    columns: list[int] = []
    for text in texts:
        for term in text:
            place = vocabulary.get(term)
            if place is None:
                if extra is None:
                    place = vocabulary.setdefault(term, len(vocabulary))
                else:
                    place = extra.setdefault(term, len(vocabulary) + len(extra))
            columns.append(place)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    indptr = offsets_of(lengths)
    ones = np.ones(len(columns), dtype=np.float32)
    size = max(1, width, len(vocabulary) + len(extra or ()))
    matrix = csr_matrix((ones, np.array(columns, dtype=np.int64), indptr), (len(texts), size))
    matrix.sum_duplicates()
    return matrix


def _digits(words: Iterable[str]) -> np.ndarray:
    """1 for each word with a digit in it, else 0."""
    return np.array([any(c.isdigit() for c in word) for word in words], dtype=np.float32)


def _bigrams(texts: list[list[str]]) -> list[list[str]]:
    return [[f"{a} {b}" for a, b in itertools.pairwise(words)] for words in texts]


def _dot(left: Any, right: Any, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """P inner products of rows, in slices."""
    products = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), 65_536):
        part = slice(start, start + 65_536)
        product = left[query[part]].multiply(right[row[part]])
        products[part] = np.asarray(product.sum(axis=1)).ravel()
    return products
