"""Runs of other toolkits as rows of a table: TREC run files, and ranx's JSON and parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.digests import content, content_digest
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.retrieval import RetrievalRequest, Retriever, RunArtifact
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Queries
from neurosearch.data.reading import read_parquet

RANX = ("q_id", "doc_id", "score")  # columns of ranx's parquet files


@dataclass(frozen=True)
class RunFile(Retriever):
    """Attributes:
    path: a file of the evaluated split's lists: `.json` or `.parquet` as ranx writes them; any
        other name is read as a TREC run (`qid Q0 docid rank score tag`).
    name: of the row; null for the file's name.
    """

    path: str = content(content_digest)
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if Path(self.path).is_dir():
            raise self.error("path", f"is a folder: {self.path}")

    def run(self, data: Artifact[Dataset], request: RetrievalRequest) -> Artifact[Run]:
        return FileRun(request.view(data), request, self)

    def label(self) -> str:
        return self.name or Path(self.path).name


@dataclass(frozen=True)
class FileRun(RunArtifact):
    """The file's lists, best first by score, cut at the request's depth."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    recipe: RunFile

    def answer(self, runtime: Runtime) -> Run:
        data, path = runtime.get(self.data), Path(self.recipe.path)
        queries = self.request.queries(data)
        run = read_run(path, queries)
        known = data.catalogue.ids
        strange = run.frame.filter(~pl.col("product_id").is_in(known.implode()))
        if strange.height:
            product, query = strange[0, "product_id"], strange[0, "query_id"]
            raise InputError(f"{path}: query {query!r} has {product!r}, which is no product")
        kept = run.frame
        answered = kept["query_id"].n_unique()
        if not answered:
            raise InputError(f"{path}: no lists")
        if answered < len(queries):
            counts = f"{answered} of {len(queries)} queries of the {queries.split} split"
            log.warning("%s: lists for %s; the others count as empty ones", path, counts)
        if self.request.pool == "judged":
            pool = data.pool(queries.split)
            kept = kept.join(pool, on=["query_id", "product_id"], how="semi")
            return Run.from_frame(kept, queries)
        return Run.from_frame(kept, queries, self.request.depth)


def read_run(path: Path, queries: Queries) -> Run:
    """A run file of any known format.

    Args:
        path: of the file.
        queries: of the split; a query that is not among them is an error.

    Returns:
        Lists in the order of scores; ties by descending product id, whatever the file's ranks.

    Raises:
        InputError: the file has another shape, an unknown query, a score that is no number, or a
            product twice in a list.
    """
    if path.suffix == ".json":
        run = _checked(path, _from_json(path), queries)
    elif path.suffix == ".parquet":
        frame = read_parquet(path)
        missing = [name for name in RANX if name not in frame.columns]
        if missing:
            raise InputError(f"{path}: missing column {missing[0]!r} (ranx writes {RANX})")
        ours = dict(zip(RANX, ("query_id", "product_id", "score"), strict=True))
        run = _checked(path, frame.select(RANX).rename(ours), queries)
    else:
        try:
            run = Run.load_trec(path, queries)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    again = run.frame.filter(~pl.struct("query_id", "product_id").is_first_distinct())
    if again.height:
        raise InputError(f"{path}: query {again[0, 0]!r} has {again[0, 1]!r} twice")
    return run


def _from_json(path: Path) -> pl.DataFrame:
    try:
        lists: Any = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            (str(query), str(product), float(score))
            for query, scores in lists.items()
            for product, score in scores.items()
        ]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        message = "{query id: {product id: score}}"
        raise InputError(f"{path}: not JSON of the shape {message} ({error})") from None
    schema = {"query_id": pl.String, "product_id": pl.String, "score": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row")


def _checked(path: Path, frame: pl.DataFrame, queries: Queries) -> Run:
    """The run of a frame. Raises InputError for a query that the split lacks, or no score."""
    try:
        frame = frame.with_columns(
            pl.col("query_id", "product_id").cast(pl.String), pl.col("score").cast(pl.Float64)
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    strange = frame.filter(~pl.col("query_id").is_in(queries.ids.implode()))
    if strange.height:
        raise InputError(f"{path}: the {queries.split} split has no query {strange[0, 0]!r}")
    try:
        return Run.from_frame(frame, queries)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
