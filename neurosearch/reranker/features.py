"""What a learner of rankings sees of a pair: words, and scores of models (METHODS 5.2).

Words: the analyser's terms of the query and of the product's title, as sparse matrices, so that
every feature is a product of rows: coverage, coverage by IDF, terms in order, numbers in common,
lengths. Models: what the first stage said, cosines of encoders, scores of other re-rankers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.artifact import Artifact
from neurosearch.reranker.base import numbered_pairs
from neurosearch.retriever.analyzer import Analyzer
from neurosearch.retriever.base import Topics
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Embeddings, Run

LEXICAL = (
    *("coverage", "idf coverage", "title coverage", "bm25", "bigrams", "first term"),
    *("numbers asked", "numbers found", "query terms", "title terms"),
)
FIRST = ("first score", "first rank", "first share")


@dataclass(frozen=True)
class Features(Artifact[pl.DataFrame]):
    """features.parquet: `query_id`, `product_id`, and a Float32 column a feature.

    `cosines`: (vectors of queries, of products) by name; `scored`: runs of the candidates by name.
    """

    kind: ClassVar[str] = "features"
    candidates: Artifact[Run]
    data: Artifact[Dataset]
    topics: Topics
    cosines: Mapping[str, tuple[Artifact[Embeddings], Artifact[Embeddings]]]
    scored: Mapping[str, Artifact[Run]]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data, run = runtime.get(self.data), runtime.get(self.candidates)
        queries = self.topics.queries(data)
        pairs = numbered_pairs(run, queries.ids, data.catalogue.ids)
        query, row = pairs["query"].to_numpy(), pairs["row"].to_numpy()
        columns: dict[str, Any] = dict(zip(FIRST, _first(pairs), strict=True))
        titles = [text for batch in data.catalogue.texts(("title",)) for text in batch]
        columns |= lexical(queries.texts, titles, query, row)
        for name, (asked, shown) in self.cosines.items():
            vectors = runtime.get(asked).vectors, runtime.get(shown).vectors
            values = np.empty(len(query), dtype=np.float32)
            for start in range(0, len(query), 65_536):
                part = slice(start, start + 65_536)
                values[part] = np.einsum("nd,nd->n", vectors[0][query[part]], vectors[1][row[part]])
            columns[f"cosine {name}"] = values
        frame = pairs.select("query_id", "product_id").with_columns(
            pl.Series(name, values, pl.Float32) for name, values in columns.items()
        )
        keys = ["query_id", "product_id"]
        for name, scored in self.scored.items():
            own = runtime.get(scored).frame.select(
                *keys, pl.col("score").cast(pl.Float32).alias(f"score {name}")
            )
            frame = frame.join(own, on=keys, how="left", maintain_order="left")
        frame.write_parquet(folder / "features.parquet")
        told = [name for name in frame.columns if name not in keys]
        (folder / "features.json").write_text(json.dumps(told), encoding="utf-8")
        return {"pairs": frame.height, "features": len(told)}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "features.parquet")


def _first(pairs: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first stage's score, rank, and score as a share of the query's best."""
    best = pl.col("score").max().over("query_id")
    told = pairs.select("score", "rank", share=pl.col("score") / best.clip(1e-9))
    score, rank, share = (told[name].to_numpy() for name in ("score", "rank", "share"))
    return score, rank, share


def lexical(
    queries: list[str], titles: list[str], query: np.ndarray, row: np.ndarray
) -> dict[str, np.ndarray]:
    """The LEXICAL features of P pairs."""
    analyzer = Analyzer().tokenizer()
    asked_terms, shown_terms = analyzer(queries), analyzer(titles)
    vocabulary: dict[str, int] = {}
    asked, shown = (_matrix(terms, vocabulary) for terms in (asked_terms, shown_terms))
    size = len(vocabulary)
    asked.resize(asked.shape[0], size)
    shown.resize(shown.shape[0], size)
    binary = shown.sign()
    count = np.asarray(binary.sum(axis=0)).ravel()
    idf = np.log(1 + (len(titles) - count + 0.5) / (count + 0.5)).astype(np.float32)
    wanted = asked.sign()
    by_idf = wanted.multiply(idf[None, :]).tocsr()
    length = np.asarray(shown.sum(axis=1)).ravel()
    # BM25 as Lucene has it (k1 .9, b .4): one number for every term of a title.
    weight = 0.9 * (1 - 0.4 + 0.4 * length / max(length.mean(), 1e-9))
    strength = shown.copy()
    strength.data = shown.data / (shown.data + np.repeat(weight, np.diff(shown.indptr)))
    pairs: dict[str, Any] = {}
    terms = np.asarray(wanted.sum(axis=1)).ravel()
    found = _dot(wanted, binary, query, row)
    pairs["coverage"] = found / np.maximum(terms[query], 1)
    total = np.asarray(by_idf.sum(axis=1)).ravel()
    pairs["idf coverage"] = _dot(by_idf, binary, query, row) / np.maximum(total[query], 1e-9)
    distinct = np.asarray(binary.sum(axis=1)).ravel()
    pairs["title coverage"] = found / np.maximum(distinct[row], 1)
    pairs["bm25"] = _dot(by_idf, strength.tocsr(), query, row)
    pairs_of: dict[str, int] = {}
    grams = [_matrix(_bigrams(terms), pairs_of) for terms in (asked_terms, shown_terms)]
    for matrix in grams:
        matrix.resize(matrix.shape[0], len(pairs_of))
    couples = np.asarray(grams[0].sign().sum(axis=1)).ravel()
    shared = _dot(grams[0].sign(), grams[1].sign(), query, row)
    pairs["bigrams"] = shared / np.maximum(couples[query], 1)
    firsts = [_matrix([own[:1] for own in terms], vocabulary) for terms in (shown_terms,)]
    firsts[0].resize(firsts[0].shape[0], size)
    pairs["first term"] = _dot(wanted, firsts[0].sign(), query, row)
    digits = np.array([any(c.isdigit() for c in word) for word in vocabulary], dtype=np.float32)
    numbers = wanted.multiply(digits[None, :]).tocsr()
    asked_numbers = np.asarray(numbers.sum(axis=1)).ravel()
    pairs["numbers asked"] = asked_numbers[query]
    common = _dot(numbers, binary, query, row)
    pairs["numbers found"] = common / np.maximum(asked_numbers[query], 1)
    pairs["query terms"], pairs["title terms"] = terms[query], distinct[row]
    return {name: np.asarray(pairs[name], dtype=np.float32) for name in LEXICAL}


def _matrix(texts: list[list[str]], vocabulary: dict[str, int]) -> Any:
    """N×V counts of terms (CSR float32); the vocabulary grows."""
    from scipy.sparse import csr_matrix

    columns = [vocabulary.setdefault(term, len(vocabulary)) for text in texts for term in text]
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    ones = np.ones(len(columns), dtype=np.float32)
    matrix = csr_matrix(
        (ones, np.array(columns, dtype=np.int64), indptr), (len(texts), max(1, len(vocabulary)))
    )
    matrix.sum_duplicates()
    return matrix


def _bigrams(texts: list[list[str]]) -> list[list[str]]:
    return [[f"{a} {b}" for a, b in itertools.pairwise(own)] for own in texts]


def _dot(left: Any, right: Any, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """P inner products of rows, in slices."""
    found = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), 65_536):
        part = slice(start, start + 65_536)
        product = left[query[part]].multiply(right[row[part]])
        found[part] = np.asarray(product.sum(axis=1)).ravel()
    return found
