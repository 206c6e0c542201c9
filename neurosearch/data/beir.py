"""Any BEIR-shaped folder: corpus.jsonl (or .gz), queries.jsonl, qrels/{train,dev,test}.tsv.

Corpus lines: `{"_id", "title", "text", "metadata"}`; metadata may hold the canonical fields
(brand, bullets, colour, category). Query lines: `{"_id", "text"}`. Qrels: tab-separated with
the header `query-id corpus-id score`. A split without a qrels file has no queries; where dev
is missing, `dev_fraction` of the train queries (by hash) stand in for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import SPLITS
from neurosearch.data import base, requirements
from neurosearch.data.reading import hashed_fraction, id_of, json_lines, read_delimited

SHAPE = "a BEIR folder has corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
LARGEST = 1e6  # of a grade
METADATA = ("brand", "bullets", "colour", "category")


@dataclass(frozen=True)
class Beir(base.Data):
    """`path`: the folder. `dev_fraction`: share of train queries that become a missing dev."""

    choice: ClassVar[str] = "beir"
    path: str = content(content_digest)
    dev_fraction: float = 0.1

    def tables(self, runtime: Runtime) -> base.Tables:
        folder = Path(self.path)
        packed = folder / "corpus.jsonl.gz"
        corpus = packed if requirements.is_there(packed) else folder / "corpus.jsonl"
        requirements.require_file(corpus, SHAPE)
        queries_file = requirements.require_file(folder / "queries.jsonl", SHAPE)
        numbered = [(n, id_of(corpus, n, x, "_id")) for n, x in json_lines(corpus)]
        ids = pl.DataFrame(numbered, {"row": pl.Int64, "product_id": pl.String}, orient="row")
        if ids.is_empty():
            raise InputError(f"{corpus}: no products")
        requirements.require_unique(corpus, ids, "product_id")
        known = [
            {
                "row": number,
                "query_id": id_of(queries_file, number, line, "_id"),
                "text": _string(queries_file, number, line, "text"),
            }
            for number, line in json_lines(queries_file)
        ]
        schema = {"row": pl.Int64, "query_id": pl.String, "text": pl.String}
        queries = pl.DataFrame(known, schema)
        if queries.is_empty():
            raise InputError(f"{queries_file}: no queries")
        requirements.require_present(queries_file, queries, "text")
        requirements.require_unique(queries_file, queries, "query_id")
        judgments = self._judgments(folder, ids["product_id"], queries)
        splits = judgments.select("query_id", "split").unique(maintain_order=True)
        torn = splits.filter(~pl.col("query_id").is_unique())
        if torn.height:
            raise InputError(f"{folder}/qrels: query {torn[0, 'query_id']!r} is in two splits")
        used = queries.join(splits, on="query_id", maintain_order="left").drop("row")
        return base.Tables(_products(corpus), used, judgments)

    def _judgments(self, folder: Path, ids: pl.Series, queries: pl.DataFrame) -> pl.DataFrame:
        splits = [s for s in SPLITS if requirements.is_there(folder / "qrels" / f"{s}.tsv")]
        if not splits:
            raise InputError(f"{folder}/qrels: none of train.tsv, dev.tsv, test.tsv ({SHAPE})")
        frames = []
        for split in splits:
            file = folder / "qrels" / f"{split}.tsv"
            requirements.require_file(file, SHAPE)
            needed = ("query-id", "corpus-id", "score")
            frame = read_delimited(file, needed, separator="\t", quote=None)
            requirements.require_present(file, frame, *needed)
            frame = frame.rename({"query-id": "query_id", "corpus-id": "product_id"})
            score = pl.col("score").cast(pl.Float64, strict=False)
            wrong = frame.filter(~score.is_finite().fill_null(False) | (score.abs() > LARGEST))
            if wrong.height:
                row, value = wrong[0, "row"], wrong[0, "score"]
                raise InputError(f"{file} row {row}, column 'score': unknown label {value!r}")
            requirements.require_known(file, frame, "product_id", ids, "corpus.jsonl")
            requirements.require_known(
                file, frame, "query_id", queries["query_id"], "queries.jsonl"
            )
            requirements.require_unique(file, frame, "query_id", "product_id")
            if frame.is_empty():
                raise InputError(f"{file}: no judgments")
            frames.append(
                frame.select("query_id", "product_id", label="score", split=pl.lit(split))
            )
        judgments = pl.concat(frames)
        if "dev" in splits or "train" not in splits:
            return judgments
        carved = pl.col("query_id").map_elements(hashed_fraction, pl.Float64)
        is_dev = (pl.col("split") == "train") & (carved < self.dev_fraction)
        return judgments.with_columns(split=pl.when(is_dev).then(pl.lit("dev")).otherwise("split"))


def _string(file: Path, number: int, record: dict[str, Any], column: str) -> str | None:
    value = record.get(column)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{file} row {number}: column {column!r} is {value!r}, not a text")
    return value


def _products(corpus: Path) -> Iterator[pl.DataFrame]:
    chunk: list[dict[str, Any]] = []
    schema = dict.fromkeys(("product_id", "title", "description", "attributes", *METADATA))
    for number, line in json_lines(corpus):
        metadata = {} if line.get("metadata") is None else line["metadata"]
        if not isinstance(metadata, dict):
            raise InputError(f"{corpus} row {number}: column 'metadata' is no object")
        if "title" not in line and "text" not in line:
            raise InputError(f"{corpus} row {number}: neither column 'title' nor 'text'")
        record = {
            "product_id": id_of(corpus, number, line, "_id"),
            "title": _string(corpus, number, line, "title"),
            "description": _string(corpus, number, line, "text"),
            "attributes": json.dumps(metadata) if metadata else None,
        }
        record |= {key: _text(metadata.get(key)) for key in METADATA}
        chunk.append(record)
        if len(chunk) == base.ROW_GROUP:
            yield pl.DataFrame(chunk, dict.fromkeys(schema, pl.String))
            chunk = []
    if chunk:
        yield pl.DataFrame(chunk, dict.fromkeys(schema, pl.String))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
