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

The new products may arrive in several steps; after each, the catalogue holds what has arrived.

Test queries are processed by statistics of the catalogue as it is now, and indexes are built on it
as it is now: they are counted, or clustered, from the products, and nobody's judgments are in them.
`evaluation=arrivals` has the recall of new and of older products apart, and of each arrival.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import polars as pl
import pyarrow.parquet as pq

from neurosearch.core.artifact import NO_IDENTITY, Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
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
        if self.steps > 1 and not self.new_share:
            raise self.error("steps", f"is {self.steps}, but new_share=0: nothing arrives")
        # Samples that are drawn after the judgments of new products are gone would leak.
        for spec in fields(base.Data):
            if spec.name in ("name", "language") or getattr(self, spec.name) == spec.default:
                continue
            raise self.error(
                spec.name, f"belongs to the data that grows: say data.data.{spec.name}"
            )
        if self.step == self.steps:  # one recipe for one catalogue
            object.__setattr__(self, "step", None)

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
        judgments = judgments.with_columns(arrival=self.arrival())
        here = pl.col("arrival") <= self.happened
        known = (pl.col("arrival") == 0) | ((pl.col("split") == "test") & here)
        judgments = judgments.filter(known).drop("split", "arrival")
        products = pl.read_parquet(folder / "products.parquet", columns=["product_id"], glob=False)
        products = products.with_columns(arrival=self.arrival())
        self._check_arrivals(set(products["arrival"]))
        asked = queries.join(judgments, on="query_id", how="semi", maintain_order="left")
        there = products.filter(here)
        frames = self._products(folder / "products.parquet")
        now = (f.join(there, on="product_id", how="semi", maintain_order="left") for f in frames)
        return base.Tables(now, asked, judgments)

    def _check_arrivals(self, arrived: set[int]) -> None:
        if 0 not in arrived:
            raise InputError(f"data.new_share is {self.new_share}: no product was there before")
        empty = set(range(1, self.steps + 1)) - arrived if self.new_share else set[int]()
        if empty and self.steps > 1:
            raise InputError(f"data.steps is {self.steps}: no product arrives at step {min(empty)}")
        if empty:
            raise InputError(f"data.new_share is {self.new_share}: no product arrives")

    def _products(self, path: object) -> Iterator[pl.DataFrame]:
        for batch in pq.ParquetFile(path).iter_batches(base.ROW_GROUP):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame

    def arrival(self) -> pl.Expr:
        """Of a `product_id` column, the step at which a product arrives; 0: it was there before."""
        if not self.new_share:
            return pl.lit(0, pl.Int64)
        place = hashed("product_id", SALT) / self.new_share  # below 1: new
        step = (place * self.steps).floor().cast(pl.Int64) + 1
        return step.clip(upper_bound=self.steps + 1) % (self.steps + 1)

    def dataset(self) -> base.DatasetArtifact:
        return Grown(self)

    def bound(self, runtime: Runtime) -> base.DatasetArtifact:
        """See `Data`; the earlier states are bound, too, so that what a job of an earlier step
        built serves the later ones."""
        artifact = super().bound(runtime)
        if not isinstance(artifact, Grown) or not artifact.states():
            return artifact
        previous = artifact.states()[-1].data.bound(runtime)
        earlier = previous.states() if isinstance(previous, Grown) else ()
        return replace(artifact, held=(*earlier, previous))

    def population(self) -> base.Data:
        return replace(self, data=self.data.population(), models="kept", passes=3.0)

    def variant(self) -> str:
        inner = self.data.variant()
        text = f"{inner}{',' if inner else ''}new_share={self.new_share:g}"
        whole = self.steps == 1 and self.step is None
        return text if whole else f"{text},steps={self.steps},step={self.happened}"

    def label(self) -> str:
        return self.name or self.data.label()

    def own_language(self) -> str:
        return self.data.language or self.data.own_language()


@dataclass(frozen=True)
class Earlier(Changing):
    """The catalogue at step 0, with the same train and dev judgments; nothing of the test split."""

    def tables(self, runtime: Runtime) -> base.Tables:
        whole = super().tables(runtime)
        queries = whole.queries.filter(pl.col("split") != "test")
        judgments = whole.judgments.join(queries, on="query_id", how="semi", maintain_order="left")
        return base.Tables(whole.products, queries, judgments)

    def dataset(self) -> base.DatasetArtifact:
        return base.DatasetArtifact(self)


@dataclass(frozen=True)
class Grown(base.DatasetArtifact):
    """The grown catalogue, which knows what it was before; `held`: its states, once bound."""

    held: tuple[base.DatasetArtifact, ...] = field(default=(), metadata=NO_IDENTITY)

    def inputs(self) -> list[Artifact[Any]]:
        """None: its states are data sets beside it, not parts of it."""
        return []

    def before(self) -> DataSource | None:
        recipe = self.data
        assert isinstance(recipe, Changing)
        if recipe.models == "retrained" or not recipe.new_share:
            return None
        return self.states()[0]

    def states(self) -> tuple[base.DatasetArtifact, ...]:
        """See `DataSource`."""
        recipe = self.data
        assert isinstance(recipe, Changing)
        if self.held or not recipe.new_share:
            return self.held
        settings = recipe.data, recipe.new_share
        first = Earlier(*settings, step=0, name=recipe.name, language=recipe.language).dataset()
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
