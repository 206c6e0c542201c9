"""A catalogue that grows: some products arrive after everything that learns was trained.

The products of any other data set, of which a share is new (by a hash of their ids). Train and dev
judgments of new products are gone, since no query was answered with them yet; test judgments stay,
the sessions of the data are left out. What becomes of the models is a policy:

* `kept`: encoders, codebooks, decoders and fusion weights are those of the catalogue before; new
  products are encoded, get IDs and are put into indexes and tries.
* `indexed`: as `kept`, but decoders continue training for some passes, on the grown catalogue's
  products and again on the train queries (replay; DSI++, Mehta et al. 2023, studies it).
* `replayed`: as `indexed`, with about as many steps, on the catalogue before alone: the control
  that says what more steps do without the new products.
* `retrained`: everything is trained anew with the new products in the catalogue.

The new products may arrive in several steps; of each, the catalogue is what has arrived by then.

Test queries are processed by statistics of the catalogue as it is now, and indexes are built on it
as it is now: they are counted, or clustered, from the products, and nobody's judgments are in them.
`evaluation=arrivals` has the recall of new and of older products apart, and of each arrival.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import polars as pl
import pyarrow.parquet as pq

from neurosearch.core.bounds import setting
from neurosearch.core.runtime import Runtime
from neurosearch.core.view import DataSource
from neurosearch.data import base
from neurosearch.data.sampling import hashed

MODELS = ("kept", "indexed", "replayed", "retrained")
SALT = "new "  # so that other shares by a hash of the same ids are other products


@dataclass(frozen=True)
class Changing(base.Data):
    """Attributes:
    data: the whole data set.
    new_share: of its products, which arrive later; 0 for none.
    models: the policy, see above.
    passes: over the grown catalogue, of decoders that continue training (`indexed`, `replayed`),
        at each step.
    steps: in which the new products arrive.
    step: how many have happened; None for all of them.
    """

    data: base.Data
    new_share: float = setting(0.1, least=0, below=1)
    # Whatever the policy, the tables are the same; what is trained says so itself.
    models: str = setting("kept", choices=MODELS, identity=False)
    passes: float = setting(3.0, above=0, identity=False)
    steps: int = setting(1, least=1)
    step: int | None = setting(None, least=0)

    choice: ClassVar[str] = "changing"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.happened > self.steps:
            raise self.error("step", f"is {self.step}, of steps={self.steps}")

    @property
    def happened(self) -> int:
        """Steps that have happened."""
        return self.steps if self.step is None else self.step

    @property
    def simulated(self) -> bool:  # type: ignore[override]
        return self.data.simulated

    def tables(self, runtime: Runtime) -> base.Tables:
        folder = runtime.store.ensure(self.data.dataset())
        queries = pl.read_parquet(folder / "queries.parquet", glob=False)
        judgments = pl.read_parquet(folder / "judgments.parquet", glob=False)
        here = self.arrival() <= self.happened
        known = (self.arrival() == 0) | ((pl.col("split") == "test") & here)
        judgments = judgments.filter(known).drop("split")
        products = pl.scan_parquet(folder / "products.parquet", glob=False).select("product_id")
        if not products.filter(self.arrival() == 0).limit(1).collect().height:
            raise self.error("new_share", f"is {self.new_share}: no product was there before")
        asked = queries.join(judgments, on="query_id", how="semi", maintain_order="left")
        now = (frame.filter(here) for frame in self._products(folder / "products.parquet"))
        return base.Tables(now, asked, judgments)

    def _products(self, path: object) -> Iterator[pl.DataFrame]:
        for batch in pq.ParquetFile(path).iter_batches(base.ROW_GROUP):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame

    def arrival(self) -> pl.Expr:
        """Of a `product_id` column, the step at which a product arrives; 0: it was there before."""
        place = hashed("product_id", SALT)
        if not self.new_share:
            return pl.lit(0, pl.Int64)
        step = (place / self.new_share * self.steps).floor().cast(pl.Int64) + 1
        # Rounding could put the last place beyond the last step.
        return pl.when(place < self.new_share).then(step.clip(1, self.steps)).otherwise(0)

    def dataset(self) -> base.DatasetArtifact:
        return Grown(self)

    def population(self) -> base.Data:
        return replace(self, data=self.data.population(), models="kept", passes=3.0)

    def variant(self) -> str:
        inner = self.data.variant()
        text = f"{inner}{',' if inner else ''}new_share={self.new_share:g}"
        return text if self.steps == 1 else f"{text},steps={self.steps},step={self.happened}"

    def label(self) -> str:
        return self.name or self.data.label()

    def own_language(self) -> str:
        return self.data.language or self.data.own_language()


@dataclass(frozen=True)
class Earlier(Changing):
    """The catalogue before, with the same train and dev judgments; nothing of the test split."""

    def tables(self, runtime: Runtime) -> base.Tables:
        whole = super().tables(runtime)
        kept = self.arrival() == 0
        queries = whole.queries.filter(pl.col("split") != "test")
        judgments = whole.judgments.join(queries, on="query_id", how="semi", maintain_order="left")
        products = (frame.filter(kept) for frame in whole.products)
        return base.Tables(products, queries, judgments.filter(kept))

    def dataset(self) -> base.DatasetArtifact:
        return base.DatasetArtifact(self)


@dataclass(frozen=True)
class Grown(base.DatasetArtifact):
    """The grown catalogue, which knows what it was before."""

    def before(self) -> DataSource | None:
        recipe = self.data
        assert isinstance(recipe, Changing)
        if recipe.models == "retrained" or not recipe.new_share:
            return None
        return self.states()[0]

    def states(self) -> tuple[DataSource, ...]:
        """See `DataSource`."""
        recipe = self.data
        assert isinstance(recipe, Changing)
        settings = recipe.data, recipe.new_share
        first = Earlier(*settings, name=recipe.name, language=recipe.language).dataset()
        steps = (replace(recipe, step=step).dataset() for step in range(1, recipe.happened))
        return (first, *steps)

    def passes(self) -> float:
        recipe = self.data
        assert isinstance(recipe, Changing)
        if not recipe.happened or recipe.models not in ("indexed", "replayed"):
            return 0.0
        if recipe.models == "indexed":
            return recipe.passes
        arrived = recipe.new_share * recipe.happened / recipe.steps
        older = 1 - recipe.new_share
        return recipe.passes * (older + arrived) / older  # as many texts, of a smaller catalogue

    def replays(self) -> bool:
        recipe = self.data
        assert isinstance(recipe, Changing)
        return recipe.models == "replayed"
