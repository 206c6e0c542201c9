"""What query processing did to each query of a split, for people to look at."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.query import QueryProcessor
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset

FILE = "queries.parquet"


@dataclass(frozen=True)
class QueryChanges(Artifact[pl.DataFrame]):
    """queries.parquet: `query_id`, `text` as typed, `read` by encoders, `words` and `terms` that
    lexical systems look up, `steps` that changed something, and `why` (of all steps)."""

    kind: ClassVar[str] = "query_changes"
    data: Artifact[Dataset]
    split: str
    processing: Mapping[str, QueryProcessor]  # see `Retriever.processing`
    column: str | None = None

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        queries = runtime.get(self.data).queries(self.split)
        readers = {value: one.reader(runtime) for value, one in self.processing.items()}
        named = queries.frame[self.column].to_list() if self.column else [""] * len(queries)
        start = time.perf_counter()
        read = [
            readers[value].read([text])[0] for value, text in zip(named, queries.texts, strict=True)
        ]
        seconds = time.perf_counter() - start
        frame = pl.DataFrame(
            {
                "query_id": queries.ids,
                "text": queries.texts,
                "read": [query.text for query in read],
                "words": [query.words for query in read],
                "terms": [" ".join(f"{t.token}^{t.weight:.2g}" for t in q.terms) for q in read],
                "steps": [" ".join(n.step for n in q.notes if n.after != n.before) for q in read],
                "why": ["; ".join(n.why for n in query.notes if n.why) for query in read],
            }
        )
        frame.write_parquet(folder / FILE)
        changed = int((frame["steps"] != "").sum())
        each = round(1e6 * seconds / max(1, frame.height), 1)
        return {"queries": frame.height, "changed": changed, "microseconds a query": each}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / FILE, glob=False)
