"""BM25 without Java: bm25s (Lù 2024), `method="lucene"`, over the same tokens as Lucene.

Scores are computed when indexing, so k1 and b belong to the index. Fields are scored apart
and summed with their boosts, as Lucene does; a product without any term in a field does not count
among the field's documents. Exact document lengths, where Lucene stores those above 39 in one byte.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import TEXT_FIELDS, Dataset
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.lexical import Words

_IMPORTING = threading.Lock()


def library() -> Any:
    """The module bm25s, which does not import JAX through this function.

    Where JAX is installed, bm25s runs it once at import (for a top-k selection that is not used
    here), and JAX then takes three quarters of a GPU's memory.

    Returns:
        The module.
    """
    with _IMPORTING:
        hidden = "jax" not in sys.modules and "bm25s" not in sys.modules
        if hidden:
            sys.modules["jax"] = None  # type: ignore[assignment]
        try:
            import bm25s
        finally:
            if hidden:
                sys.modules.pop("jax", None)
        return bm25s


@dataclass(frozen=True)
class Bm25sIndex(Artifact["LiveField"]):
    """Scores of every term in one field (or in `contents`, all of them joined).

    `added`: one text a product, in place of a field's.
    """

    kind: ClassVar[str] = "bm25s"
    data: Artifact[Dataset]
    analyzer: Analyzer
    field: str
    k1: float
    b: float
    added: Artifact[list[str]] | None = None

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        bm25s = library()
        from bm25s.tokenization import Tokenized

        catalogue = runtime.get(self.data).catalogue
        tokenizer = self.analyzer.tokenizer()
        fields = TEXT_FIELDS if self.field == "contents" else (self.field,)
        vocabulary: dict[str, int] = {}
        ids: list[list[int]] = []
        rows: list[int] = []  # of the products that have a term
        start = 0
        with runtime.progressing(f"tokens of {self.field}", len(catalogue)) as done:
            batches = catalogue.texts(fields) if self.added is None else [runtime.get(self.added)]
            for texts in batches:
                for row, tokens in enumerate(tokenizer(texts), start):
                    if tokens:
                        rows.append(row)
                        ids.append([vocabulary.setdefault(t, len(vocabulary)) for t in tokens])
                start += len(texts)
                done(len(texts))
        # bm25s needs a term to index at all: a field that is empty throughout scores nothing.
        vocabulary.setdefault("", len(vocabulary))
        ids = ids or [[vocabulary[""]]]
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        index.index(Tokenized(ids=ids, vocab=vocabulary), show_progress=False)
        index.save(str(folder / "index"))
        np.savez(folder / "rows.npz", rows=np.array(rows, np.int64), products=len(catalogue))
        return {"products": len(catalogue), "terms": len(vocabulary)}

    def load(self, folder: Path) -> LiveField:
        stored = np.load(folder / "rows.npz")
        index = library().BM25.load(str(folder / "index"), mmap=True)
        return LiveField(index, stored["rows"], int(stored["products"]))


@dataclass(frozen=True)
class LiveField:
    """A loaded index of the products that have a term in the field; `rows`: which they are."""

    index: Any
    rows: np.ndarray
    products: int

    def terms(self) -> Mapping[str, int]:
        """Numbers of the terms."""
        found: Mapping[str, int] = self.index.vocab_dict
        return found

    def by_product(self) -> Any:
        """What each term adds to the score of each product.

        Returns:
            Products×terms sparse matrix (CSR, float32), without zeros.
        """
        from scipy import sparse

        held = self.index.scores
        parts = (np.asarray(held["data"]), np.asarray(held["indices"]), np.asarray(held["indptr"]))
        some = sparse.csc_matrix(parts, (len(self.rows), len(held["indptr"]) - 1)).tocoo()
        rows = self.rows[some.row] if len(self.rows) else some.row
        shape = self.products, max(len(self.terms()), some.shape[1])
        matrix = sparse.csr_matrix((some.data.astype(np.float32), (rows, some.col)), shape)
        matrix.eliminate_zeros()
        return matrix

    def add_scores(self, words: Words, boost: float, total: np.ndarray) -> None:
        """Add the boosted scores to N float32 sums."""
        if not len(self.rows):
            return
        by_weight: dict[float, list[str]] = {}
        for token, weight in words.items():
            if token in self.index.vocab_dict:
                by_weight.setdefault(weight, []).append(token)
        for weight, tokens in by_weight.items():
            total[self.rows] += np.float32(boost * weight) * self.index.get_scores(tokens)


def all_scores(
    indexes: list[tuple[LiveField, float]], queries: list[Words]
) -> Iterator[np.ndarray]:
    """For each query the N scores: the boosted sum over (index, boost) pairs."""
    for words in queries:
        total = np.zeros(indexes[0][0].products, np.float32)
        for field, boost in indexes:
            field.add_scores(words, boost, total)
        yield total


def top(scores: np.ndarray, k: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best k that score above zero, best first.

    Args:
        scores: N float32.
        places: N ranks of the product ids; ties come in their descending order, also at the last
            rank.

    Returns:
        Rows (int64) and scores (float32), at most k.
    """
    rows = np.flatnonzero(scores > 0)
    if k < len(rows):
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    rows = rows[np.lexsort((-places[rows], -scores[rows]))][:k]
    return rows, scores[rows]
