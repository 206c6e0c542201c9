"""BM25 with one more field: queries that a writer expects for each product.

A writer reads a product and writes queries for it (docTTTTTquery, Nogueira & Lin 2019). Some of
them say what the product is not: those whose vectors are least like their product's can be dropped
(doc2query--, Gospodinov et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import NO_IDENTITY, Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, check_fields
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder
from neurosearch.retriever import bm25s_engine, lucene
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.lucene_search import CONTENTS, EXPANSION
from neurosearch.writer.base import Writer
from neurosearch.writer.for_products import WrittenForProducts

AMONG = ("product", "catalogue")
AT_ONCE = 16_384  # written queries that are compared with their products at a time


@dataclass(frozen=True)
class Expansion(Recipe):
    """Attributes:
    writer: of the queries.
    prompt: what it reads, with {product}.
    fields, separator: of the product's text.
    samples: queries of a product.
    filter: an encoder; a query counts as much as its vector is like its product's.
    kept: share of the distinct queries that stay, the best ones; 1 for no filter.
    among: the best of each `product`, or of the whole `catalogue`, which leaves some products none.
    failures: share of the texts that may fail.
    """

    writer: Writer
    filter: Encoder
    prompt: str = "{product}"
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    samples: int = setting(10, least=1)
    kept: float = setting(0.3, above=0, most=1)
    among: str = setting("product", choices=AMONG)
    failures: float = setting(0.05, least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("retriever.expansion.fields", self.fields)
        if "{product}" not in self.prompt:
            raise self.error("prompt", "does not say where {product} goes")
        if self.kept < 1 and not self.filter.reads_words:
            raise self.error("filter", "reads no words, so no query can be compared with a product")

    def written(self, data: Artifact[Dataset]) -> Artifact[list[str]]:
        """The queries of each product, one text a product.

        Args:
            data: the data set, or a view of it.

        Returns:
            The texts by row, as an artifact.
        """
        writer = self.writer.fitted(data)
        raw = WrittenForProducts(
            view.products(data),
            writer,
            self.prompt,
            (self.fields, self.separator),
            self.samples,
            self.failures,
        )
        if self.kept == 1:
            return KeptQueries(raw, None, 1.0, self.among)
        products = self.filter.product_embeddings(data)
        return KeptQueries(raw, Likeness(raw, products, self.filter, data), self.kept, self.among)


@dataclass(frozen=True)
class Expanded(BM25):
    """Attributes:
    expansion: what is added to the products.
    boost: weight of the added field.
    The rest: see `BM25`.
    """

    expansion: Expansion = field(kw_only=True)
    boost: float = setting(0.25, above=0)

    @property
    def weights(self) -> dict[str, float]:
        return {**self.boosts, EXPANSION: self.boost}

    def indexes(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        added = self.expansion.written(data)
        if self.engine == "lucene":
            fields = tuple(sorted(name for name in self.boosts if name != CONTENTS))
            return [lucene.LuceneIndex(view.products(data), self.analyzer, fields, added)]
        index = bm25s_engine.Bm25sIndex
        parts = view.products(data), self.analyzer, EXPANSION, self.k1, self.b
        return [*super().indexes(data), index(*parts, added)]

    def label(self) -> str:
        kept = f", best {100 * self.expansion.kept:g} %" if self.expansion.kept < 1 else ""
        what = f"{self.expansion.samples} {self.expansion.writer.label()}{kept}"
        return f"{super().label()} + {what}"


@dataclass(frozen=True)
class Likeness(Artifact[np.ndarray]):
    """likeness.npy: how like its product's vector each written query's is (float32)."""

    kind: ClassVar[str] = "likeness"
    raw: Artifact[pl.DataFrame]
    products: Artifact[Embeddings]
    encoder: Encoder
    data: Artifact[Dataset] = field(metadata=NO_IDENTITY)  # that the encoder was trained on

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        raw, vectors = runtime.get(self.raw), runtime.get(self.products).vectors
        live = self.encoder.loaded(runtime, self.data)
        rows, texts = raw["row"].to_numpy(), raw["text"].to_list()
        found = np.empty(len(texts), np.float32)
        with runtime.progressing("comparing queries with products", len(texts)) as advance:
            for start in range(0, len(texts), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                queries = live.encode(texts[part])
                found[part] = np.einsum("nd,nd->n", queries, vectors[rows[part]])
                advance(len(queries))
        np.save(folder / "likeness.npy", found)
        return {"mean": round(float(found.mean()), 4)}

    def load(self, folder: Path) -> np.ndarray:
        stored: np.ndarray = np.load(folder / "likeness.npy")
        return stored


@dataclass(frozen=True)
class KeptQueries(Artifact[list[str]]):
    """texts.parquet: `text`, one a product: queries that stay, each as often as it was drawn."""

    kind: ClassVar[str] = "expansion"
    raw: WrittenForProducts
    likeness: Likeness | None
    kept: float
    among: str

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        frame = runtime.get(self.raw)
        products = len(runtime.get(self.raw.data).catalogue)
        before = frame.height
        if self.likeness is not None:
            frame = best(frame, runtime.get(self.likeness), self.kept, self.among)
        repeated = pl.col("text").repeat_by("count").list.join(" ")
        joined = frame.with_columns(repeated).group_by("row").agg(pl.col("text").str.join(" "))
        whole = pl.DataFrame({"row": range(products)}, schema={"row": pl.Int64})
        whole = whole.join(joined, on="row", how="left").sort("row").fill_null("")
        whole.select("text").write_parquet(folder / "texts.parquet")
        empty = int((whole["text"] == "").sum())
        return {"queries": frame.height, "of": before, "products without": empty}

    def load(self, folder: Path) -> list[str]:
        texts: list[str] = pl.read_parquet(folder / "texts.parquet", glob=False)["text"].to_list()
        return texts


def best(queries: pl.DataFrame, likeness: np.ndarray, kept: float, among: str) -> pl.DataFrame:
    """The queries that are most like their product.

    Args:
        queries: `row` of the product, `text`, `count`.
        likeness: of each query.
        kept: share of the queries that stay, at least one of each group.
        among: each `product`, or the whole `catalogue`.

    Returns:
        The kept ones, in their order.
    """
    frame = queries.with_columns(likeness=pl.Series(likeness))
    place = pl.col("likeness").rank("ordinal", descending=True)
    most = (kept * pl.len()).ceil()
    fits = place <= most if among == "catalogue" else place.over("row") <= most.over("row")
    return frame.filter(fits).drop("likeness")
