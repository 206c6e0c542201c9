"""What a writer wrote for each product of a catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.writer.base import Writer


@dataclass(frozen=True)
class WrittenForProducts(Artifact[pl.DataFrame]):
    """queries.parquet: `row` of the product, `text`, and `count`, how often it was written."""

    kind: ClassVar[str] = "written_for_products"
    data: Artifact[Dataset]
    writer: Writer
    prompt: str
    texts: tuple[Any, ...]
    samples: int
    failures: float

    def check(self, runtime: Runtime) -> None:
        self.writer.check(runtime)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        products = runtime.get(self.data).catalogue.all_texts(*self.texts)
        distinct = list(dict.fromkeys(text for text in products if text))
        prompts = [self.prompt.replace("{product}", text) for text in distinct]
        written = self.writer.write(prompts, runtime, self.samples, self.failures)
        by_text = dict(zip(distinct, written, strict=True))
        lists = [[" ".join(t.split()) for t in by_text.get(text, [])] for text in products]
        frame = pl.DataFrame({"text": lists}, schema={"text": pl.List(pl.String)})
        frame = frame.with_row_index("row").explode("text").drop_nulls()
        frame = frame.filter(pl.col("text") != "").cast({"row": pl.Int64})
        if frame.is_empty():
            raise InputError(f"writer {self.writer.label()} wrote nothing for any product")
        frame = frame.group_by("row", "text", maintain_order=True).len("count")
        frame.write_parquet(folder / "queries.parquet")
        return {"products": len(products), "distinct queries": frame.height}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "queries.parquet", glob=False)
