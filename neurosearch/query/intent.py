"""Which category a query means, from what was good for train queries.

P(c | q) is the share of the gains of q's train judgments that products of category c have. A query
that train does not have takes the mean of its nearest train queries, by cosine of their words'
tf-idf weights. Where the entropy is at most `bits`, lexical systems look up the category's words
besides; a query with more is ambiguous ("apple"), and its categories are only told.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.query import Query, Reader, Term
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.evaluation.gain import Gain
from neurosearch.negatives.base import graded_pairs
from neurosearch.query.analyzer import Analyzer, Tokenizer
from neurosearch.query.learning import LearningStep, train_texts

TOLD = 3  # categories of an ambiguous query
SAME = 0.999  # cosine from which a train query is the query itself


@dataclass(frozen=True)
class Intent(LearningStep):
    """Attributes:
    gain: what a judgment is worth.
    boost: weight of a category's words, times the category's probability.
    bits: of entropy, above which a query is ambiguous.
    neighbours: train queries that stand in for one that train does not have.
    nearness: cosine of a neighbour, at least.
    level: of the category's path that counts, from 1; null for the whole path.
    analyzer: of the lexical systems.
    """

    gain: Gain = field(kw_only=True)
    boost: float = setting(1.0, above=0)
    bits: float = setting(1.0, least=0)
    neighbours: int = setting(10, least=1)
    nearness: float = setting(0.5, least=0, most=1)
    level: int | None = setting(None, least=1)
    analyzer: Analyzer = field(default_factory=Analyzer)

    needs_judgments: ClassVar[bool] = True

    def learn(self, data: Dataset, read: Reader, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from scipy.sparse import csr_matrix, save_npz

        categories = [self._cut(path) for path in data.catalogue.all_texts(("category",))]
        names = sorted({name for name in categories if name})
        if not names:
            raise InputError("query=intent learns from categories, and the data has none")
        number = {name: place for place, name in enumerate(names)}
        graded = graded_pairs(data, data.judgments("train"), self.gain)
        graded = graded.filter(pl.col("share") > 0)
        kept = [(q, number[categories[r]], s) for q, r, s in graded.iter_rows() if categories[r]]
        texts = read.texts(train_texts(data))
        query, column, share = (np.array(values) for values in zip(*kept, strict=True))
        gains = csr_matrix((share, (query, column)), (len(texts), len(names)))
        tokenizer = self.analyzer.tokenizer()
        tokens = [sorted(set(tokenizer.tokens(text))) for text in texts]
        vocabulary = sorted({token for own in tokens for token in own})
        place = {token: n for n, token in enumerate(vocabulary)}
        rows = np.repeat(np.arange(len(tokens)), [len(own) for own in tokens])
        columns = np.array([place[token] for own in tokens for token in own], dtype=np.int64)
        counts = np.bincount(columns, minlength=len(vocabulary))
        idf = np.log((1 + len(tokens)) / (1 + counts)) + 1
        weights = csr_matrix((idf[columns], (rows, columns)), (len(tokens), len(vocabulary)))
        save_npz(folder / "queries.npz", _unit(weights))
        save_npz(folder / "gains.npz", gains)
        np.save(folder / "idf.npy", idf)
        facts = {"categories": names, "tokens": vocabulary}
        (folder / "names.json").write_text(json.dumps(facts), encoding="utf-8")
        return {"categories": len(names), "train queries": int((gains.getnnz(axis=1) > 0).sum())}

    def _cut(self, path: str) -> str:
        parts = [part.strip() for part in path.split(">")]
        return " > ".join(parts if self.level is None else parts[: self.level])

    def load(self, folder: Path) -> Meanings:
        return Meanings.load(folder, self.analyzer.tokenizer())

    def rewriter(self, learnt: Meanings) -> Callable[[Query], Query]:
        def rewrite(query: Query) -> Query:
            meant = learnt.of(query.text, self.neighbours, self.nearness)
            if not meant:
                return query
            shares = np.array([share for _, share in meant])
            entropy = float(-(shares * np.log2(shares)).sum())
            told = ", ".join(f"{name} {share:.0%}" for name, share in meant[:TOLD])
            if entropy > self.bits:
                return query.noted("intent", f"ambiguous, {entropy:.1f} bits: {told}")
            typed = set(learnt.tokenizer.tokens(query.words))
            name, share = meant[0]
            words = learnt.tokenizer.tokens(name.split(" > ")[-1])
            new = [t for t in dict.fromkeys(words) if t not in typed]
            terms = [Term(token, self.boost * share) for token in new]
            return query.rewritten("intent", terms=terms, why=told)

        return rewrite


@dataclass(frozen=True)
class Meanings:
    """Train queries as N×V unit tf-idf vectors, and N×C gains by category."""

    queries: Any
    gains: Any
    idf: np.ndarray
    tokens: dict[str, int]
    categories: list[str]
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: Path, tokenizer: Tokenizer) -> Meanings:
        """Read what was learnt."""
        from scipy.sparse import load_npz

        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        tokens = {token: place for place, token in enumerate(names["tokens"])}
        queries, gains = (load_npz(folder / f"{name}.npz") for name in ("queries", "gains"))
        idf = np.load(folder / "idf.npy")
        return cls(queries.tocsr(), gains.tocsr(), idf, tokens, names["categories"], tokenizer)

    def of(self, text: str, neighbours: int, nearness: float) -> list[tuple[str, float]]:
        """Categories with their probabilities, the likeliest first; none where nothing is near.

        Args:
            text: of a query.
            neighbours: train queries that stand in for it.
            nearness: their cosine, at least.

        Returns:
            Names and shares that sum to one.
        """
        known = {self.tokens[t] for t in self.tokenizer.tokens(text) if t in self.tokens}
        if not known:
            return []
        columns = np.array(sorted(known))
        own = np.zeros(self.queries.shape[1])
        # Words that train does not have make a query less like any of train's.
        strange = len(set(self.tokenizer.tokens(text))) - len(columns)
        length = np.sqrt((self.idf[columns] ** 2).sum() + strange * self.idf.max() ** 2)
        own[columns] = self.idf[columns] / length
        cosines = self.queries @ own
        near = np.lexsort((np.arange(len(cosines)), -cosines))[:neighbours]
        same = np.flatnonzero(cosines >= SAME)
        chosen = same if len(same) else near[cosines[near] >= max(nearness, 1e-9)]
        weight = cosines[chosen]
        shares = self.gains[chosen]
        totals = np.asarray(shares.sum(axis=1)).ravel()
        found = (weight / np.maximum(totals, 1e-12) * (totals > 0)) @ shares
        if not found.sum():
            return []
        found = found / found.sum()
        order = np.lexsort((np.arange(len(found)), -found))
        return [(self.categories[n], float(found[n])) for n in order if found[n] > 0]


def _unit(matrix: Any) -> Any:
    """Rows of length one."""
    from scipy.sparse import diags

    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (diags(1 / np.maximum(lengths, 1e-12)) @ matrix).tocsr()
