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

Test queries are processed by statistics of the catalogue as it is now, and indexes are built on it
as it is now: they are counted, or clustered, from the products, and nobody's judgments are in them.
`evaluation=arrivals` has the recall of new and of older products apart.
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
    passes: over the grown catalogue, of decoders that continue training (`indexed`, `replayed`).
    """

    data: base.Data
    new_share: float = setting(0.1, least=0, below=1)
    # Whatever the policy, the tables are the same; what is trained says so itself.
    models: str = setting("kept", choices=MODELS, identity=False)
    passes: float = setting(3.0, above=0, identity=False)

    choice: ClassVar[str] = "changing"

    @property
    def simulated(self) -> bool:  # type: ignore[override]
        return self.data.simulated

    def tables(self, runtime: Runtime) -> base.Tables:
        folder = runtime.store.ensure(self.data.dataset())
        queries = pl.read_parquet(folder / "queries.parquet", glob=False)
        judgments = pl.read_parquet(folder / "judgments.parquet", glob=False)
        known = ~self.is_new() | (pl.col("split") == "test")
        judgments = judgments.filter(known).drop("split")
        products = pl.scan_parquet(folder / "products.parquet", glob=False).select("product_id")
        if not products.filter(~self.is_new()).limit(1).collect().height:
            raise self.error("new_share", f"is {self.new_share}: no product was there before")
        asked = queries.join(judgments, on="query_id", how="semi", maintain_order="left")
        return base.Tables(self._products(folder / "products.parquet"), asked, judgments)

    def _products(self, path: object) -> Iterator[pl.DataFrame]:
        for batch in pq.ParquetFile(path).iter_batches(base.ROW_GROUP):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame

    def is_new(self) -> pl.Expr:
        """Of a `product_id` column, which products arrive later."""
        return hashed("product_id", SALT) < self.new_share

    def dataset(self) -> base.DatasetArtifact:
        return Grown(self)

    def population(self) -> base.Data:
        return replace(self, data=self.data.population(), models="kept", passes=3.0)

    def variant(self) -> str:
        inner = self.data.variant()
        return f"{inner}{',' if inner else ''}new_share={self.new_share:g}"

    def label(self) -> str:
        return self.name or self.data.label()

    def own_language(self) -> str:
        return self.data.language or self.data.own_language()


@dataclass(frozen=True)
class Earlier(Changing):
    """The catalogue before, with the same train and dev judgments; nothing of the test split."""

    def tables(self, runtime: Runtime) -> base.Tables:
        whole = super().tables(runtime)
        kept = ~self.is_new()
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
        return self.earlier()

    def earlier(self) -> DataSource:
        """The catalogue before, whatever the policy."""
        recipe = self.data
        assert isinstance(recipe, Changing)
        settings = recipe.data, recipe.new_share
        return Earlier(*settings, name=recipe.name, language=recipe.language).dataset()

    def passes(self) -> float:
        recipe = self.data
        assert isinstance(recipe, Changing)
        if recipe.models == "replayed":  # as many texts, of a smaller catalogue
            return recipe.passes / (1 - recipe.new_share)
        return recipe.passes if recipe.models == "indexed" else 0.0

    def replays(self) -> bool:
        recipe = self.data
        assert isinstance(recipe, Changing)
        return recipe.models == "replayed"
