"""BM25 without Java: bm25s (Lù 2024), `method="lucene"`, over the same tokens as Lucene.

Scores are computed when indexing, so k1 and b belong to the index. Fields are scored apart
and summed with their boosts, as Lucene does. Exact document lengths, where Lucene stores
them in one byte: scores differ by about a third of a percent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.artifact import Artifact
from neurosearch.retriever.analyzer import Analyzer
from neurosearch.runtime import Runtime
from neurosearch.types import TEXT_FIELDS, Dataset


@dataclass(frozen=True)
class Bm25sIndex(Artifact[Any]):
    """Scores of every term in one field (or in `contents`, all of them joined)."""

    kind: ClassVar[str] = "bm25s"
    data: Artifact[Dataset]
    analyzer: Analyzer
    field: str
    k1: float
    b: float

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import bm25s
        from bm25s.tokenization import Tokenized

        catalogue = runtime.get(self.data).catalogue
        tokenizer = self.analyzer.tokenizer()
        fields = TEXT_FIELDS if self.field == "contents" else (self.field,)
        vocabulary: dict[str, int] = {}
        ids: list[list[int]] = []
        with runtime.progressing(f"tokens of {self.field}", len(catalogue)) as done:
            for texts in catalogue.texts(fields):
                for tokens in tokenizer(texts):
                    ids.append([vocabulary.setdefault(t, len(vocabulary)) for t in tokens])
                done(len(texts))
        # bm25s needs a term to index at all: a field that is empty throughout scores nothing.
        vocabulary.setdefault("", len(vocabulary))
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        index.index(Tokenized(ids=ids, vocab=vocabulary), show_progress=False)
        index.save(str(folder / "index"))
        return {"products": len(ids), "terms": len(vocabulary)}

    def load(self, folder: Path) -> Any:
        import bm25s

        return bm25s.BM25.load(str(folder / "index"), mmap=True)


def all_scores(indexes: list[tuple[Any, float]], queries: list[list[str]]) -> Iterator[np.ndarray]:
    """For each query the N scores: the boosted sum over (index, boost) pairs."""
    for tokens in queries:
        total: np.ndarray | None = None
        for index, boost in indexes:
            known = [token for token in tokens if token in index.vocab_dict]
            scores = index.get_scores(known) if known else None
            if scores is not None:
                total = boost * scores if total is None else total + boost * scores
        if total is None:
            total = np.zeros(indexes[0][0].scores["num_docs"], np.float32)
        yield total


def top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores of the best k that score above zero, best first, ties by row."""
    k = min(k, len(scores))
    rows = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
    rows = rows[scores[rows] > 0]
    rows = rows[np.lexsort((rows, -scores[rows]))]
    return rows, scores[rows]
