"""Translations mined from train judgments: what titles say where queries say something else.

Over pairs of a train query and a product that is good for it, a query's stem u and a title's stem v
are counted where u is not in the title. v is a translation of u where it comes with u much more
often than by chance: k pairs, and k · log[P(v | u) / P(v)], both of some size. The query keeps its
words; lexical systems look up the best translations besides, with a weight that is a share of
P(v | u).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.query import Query, Reader, Term
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.evaluation.gain import Gain
from neurosearch.negatives.base import graded_pairs
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.learning import LearningStep, train_texts

Table = dict[str, list[Term]]


@dataclass(frozen=True)
class Translations(LearningStep):
    """Attributes:
    gain: what a judgment is worth.
    weight: of a translation that always comes with its word.
    most: translations of a word.
    pairs: that have both, at least.
    surprise: k · log[P(v | u) / P(v)] of a translation, at least.
    positive_share: of the largest gain, from which a product is good for a query.
    fields: of products.
    analyzer: of the lexical systems.
    """

    gain: Gain = field(kw_only=True)
    weight: float = setting(0.5, above=0)
    most: int = setting(3, least=1)
    pairs: int = setting(3, least=1)
    surprise: float = setting(8.0, least=0)
    positive_share: float = setting(0.66, above=0, most=1)
    fields: tuple[str, ...] = ("title",)
    analyzer: Analyzer = field(default_factory=Analyzer)

    needs_judgments: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("query.fields", self.fields)

    def learn(self, data: Dataset, read: Reader, folder: Path, runtime: Runtime) -> dict[str, Any]:
        tokenizer = self.analyzer.tokenizer()
        queries = [set(tokenizer.tokens(text)) for text in read.texts(train_texts(data))]
        titles = [set(tokenizer.tokens(text)) for text in data.catalogue.all_texts(self.fields)]
        graded = graded_pairs(data, data.judgments("train"), self.gain)
        good = graded.filter(pl.col("share") >= self.positive_share).select("query", "row")
        together: Counter[tuple[str, str]] = Counter()
        missing: Counter[str] = Counter()
        shown: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        for query, row in good.iter_rows():
            title = titles[row]
            shown.update(title)
            asked.update(queries[query])
            for word in queries[query] - title:
                missing[word] += 1
                together.update((word, other) for other in title)
        found = []
        for (word, other), count in together.items():
            share = count / missing[word]
            surprise = count * math.log(share / (shown[other] / good.height))
            if count >= self.pairs and surprise > self.surprise:
                found.append((word, other, count, count / asked[word], surprise))
        columns = {"word": pl.String, "translation": pl.String, "pairs": pl.Int64}
        schema = {**columns, "share": pl.Float64, "surprise": pl.Float64}
        table = (
            pl.DataFrame(found, schema, orient="row")
            .sort("word", -pl.col("surprise"), "translation")
            .filter(pl.int_range(pl.len()).over("word") < self.most)
        )
        table.write_parquet(folder / "translations.parquet")
        return {"positives": good.height, "words": table["word"].n_unique(), "rows": table.height}

    def load(self, folder: Path) -> Table:
        stored = pl.read_parquet(folder / "translations.parquet", glob=False)
        table: Table = {}
        for word, other, share in stored.select("word", "translation", "share").iter_rows():
            table.setdefault(word, []).append(Term(other, self.weight * share))
        return table

    def rewriter(self, learnt: Table) -> Callable[[Query], Query]:
        tokenizer = self.analyzer.tokenizer()

        def rewrite(query: Query) -> Query:
            tokens = dict.fromkeys(tokenizer.tokens(query.text))
            added = {token: learnt[token] for token in tokens if token in learnt}
            terms = [term for terms in added.values() for term in terms if term.token not in tokens]
            why = ", ".join(
                f"{token} → {' '.join(term.token for term in terms)}"
                for token, terms in added.items()
            )
            return query.rewritten("translations", terms=terms, why=why)

        return rewrite
