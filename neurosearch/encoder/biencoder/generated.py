"""Generated queries: training pairs that nobody judged, of a writer's text and its product.

Mixed into each batch (in the manner of InPars and GPL), or gone through before judgments are seen
(pre-training on the catalogue).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import SPLITS, Dataset, check_fields, queries_of
from neurosearch.training.schedule import Schedule
from neurosearch.writer.base import Writer
from neurosearch.writer.crops import Crops
from neurosearch.writer.for_products import WrittenForProducts


@dataclass(frozen=True)
class Generated(Recipe):
    """Attributes:
    writer: of the queries.
    samples: queries of a product.
    prompt: what it reads, with {product}.
    fields, separator: of the product's text.
    share: of a batch; the rest are judged pairs, which an epoch is counted by: with a half there
        are twice as many steps an epoch.
    failures: share of the texts that may fail.
    """

    writer: Writer = field(default_factory=Crops)
    samples: int = setting(3, least=1)
    share: float = setting(0.5, above=0, below=1)
    prompt: str = "{product}"
    fields: tuple[str, ...] = ("title",)
    separator: str = " "
    failures: float = setting(0.05, least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields("encoder.generated.fields", self.fields)
        if "{product}" not in self.prompt:
            raise self.error("prompt", "does not say where {product} goes")

    def pairs(self, data: Artifact[Dataset]) -> Artifact[pl.DataFrame]:
        """The written queries of a data set's products.

        Args:
            data: to be trained on.

        Returns:
            `row` of the product and `text`, without the queries of any split, as an artifact.
        """
        texts = self.fields, self.separator
        writer = self.writer.fitted(data)
        products = view.products(data)
        written = WrittenForProducts(
            products, writer, self.prompt, texts, self.samples, self.failures
        )
        whole: Any = data.stored()
        asked = [queries_of(split) for split in SPLITS if whole.part_digest(queries_of(split))]
        return NewQueries(written, view.only(data, *asked))


@dataclass(frozen=True)
class Pretraining(Recipe):
    """Attributes:
    generated: the pairs; their `share` is all of a batch here.
    schedule: of this training, an epoch of which is one over the pairs.
    """

    generated: Generated = field(default_factory=Generated)
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=1.0, patience=0))


@dataclass(frozen=True)
class NewQueries(Artifact[pl.DataFrame]):
    """queries.parquet: `row`, `text`; what any split asks in these words is left out."""

    kind: ClassVar[str] = "new_queries"
    written: Artifact[pl.DataFrame]
    asked: Artifact[Dataset]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        frame, data = runtime.get(self.written), runtime.get(self.asked)
        known = pl.concat(
            [data.queries(split).frame.select("text") for split in SPLITS if data.has(split)]
        )
        new = frame.with_columns(plain=plain(frame["text"])).join(
            known.select(plain=plain(known["text"])), on="plain", how="anti", maintain_order="left"
        )
        if new.is_empty():
            raise InputError("encoder.generated: all written queries are queries of the data set")
        new.select("row", "text").write_parquet(folder / "queries.parquet")
        return {"queries": new.height, "left out: queries of the data": frame.height - new.height}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "queries.parquet", glob=False)


def plain(texts: pl.Series) -> pl.Series:
    """Texts in lower case, with one space for whatever is no letter or digit: equal ones are alike.

    Args:
        texts: N texts.

    Returns:
        N texts.
    """
    return texts.str.to_lowercase().str.replace_all(r"\W+", " ").str.strip_chars()
