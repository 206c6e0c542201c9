"""SIMULATED shoppers with tastes: the shop's products, searched and bought in time order.

The same products as `data=shop`. A query is one search of one shopper, with the products that were
bought before it (`history`); its one judgment is the product that was bought. Splits are made in
time: `cut=last` tests each shopper's last search, with the one before it for dev; `cut=time` tests
whatever happened after nine tenths of all searches, with the tenth before for dev.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data import base
from neurosearch.data.shop import Shop
from neurosearch.data.simulation.shoppers import askable, simulate

LARGEST = 100_000  # products: every query is compared with all of them
CUTS = ("last", "time")


@dataclass(frozen=True)
class Shoppers(Shop):
    """Attributes:
    n_users: shoppers, with 1 to 20 searches each.
    taste: strength of taste; 0 for none.
    follow_ups: share of the searches in two turns (`sofa ␞ in blue`), see `query=contextual`.
    cut: how the splits are made.
    fame: exponent of popularity in what is bought; 0: all that fits is bought alike.
    shuffled: every shopper gets the history of another one with as many purchases: a control.
    """

    choice: ClassVar[str] = "shoppers"
    n_sessions: int = 0
    images: bool = False
    n_users: int = setting(1500, least=20)
    taste: float = setting(1.0, least=0, most=5)
    follow_ups: float = setting(0.0, least=0, most=1)
    cut: str = setting("last", choices=CUTS)
    fame: float = setting(0.0, least=0)
    shuffled: bool = False

    def tables(self, runtime: Runtime) -> base.Tables:
        if self.n_products > LARGEST:
            raise InputError(f"data.n_products must be at most {LARGEST} here")
        world, codes, frame, intents = self.drawn()
        asked = askable(world, codes, frame, intents)
        events = simulate(
            world, codes, asked, self.seed, self.n_users, self.taste, self.follow_ups, self.fame
        )
        bought = pl.format("P{}", pl.col("row").cast(pl.String).str.zfill(8))
        events = events.with_columns(
            query_id=pl.format("U{}-{}", pl.col("user").cast(pl.String).str.zfill(5), "place"),
            product_id=bought,
            split=self._split(),
        )
        events = events.with_columns(history=_histories(events))
        if self.shuffled:
            events = events.with_columns(history=_exchanged(events, self.seed))
        length = pl.col("history").list.len()
        queries = events.select(
            "query_id",
            "text",
            "split",
            "kind",
            "history",
            user=pl.col("user").cast(pl.String),
            follow_up=pl.when("follow_up").then(pl.lit("yes")).otherwise(pl.lit("no")),
            past=pl.when(length == 0).then(pl.lit("0")).when(length <= 3)
            .then(pl.lit("1 to 3")).otherwise(pl.lit("4 and more")),
            repeat=pl.when(pl.col("history").list.contains(pl.col("product_id")))
            .then(pl.lit("yes")).otherwise(pl.lit("no")),
        )  # fmt: skip
        judgments = events.select("query_id", "product_id", label=pl.lit("bought"))
        return base.Tables(self._products(world, codes, runtime), queries, judgments)

    def _split(self) -> pl.Expr:
        """The split of each search."""
        if self.cut == "last":
            left = pl.len().over("user") - pl.col("place")  # 1: the last one
            test, dev = left == 1, left == 2
        else:
            share = pl.col("day").rank("ordinal") / pl.len()
            test, dev = share > 0.9, share > 0.8
        return (
            pl.when(test).then(pl.lit("test")).when(dev).then(pl.lit("dev")).otherwise(
                pl.lit("train")
            )
        )  # fmt: skip


def _histories(events: pl.DataFrame) -> pl.Series:
    """What each shopper had bought before each search, oldest first."""
    histories: list[list[str]] = []
    bought: list[str] = []
    for product, place in events.select("product_id", "place").iter_rows():
        bought = bought if place else []
        histories.append(list(bought))
        bought.append(product)
    return pl.Series("history", histories, pl.List(pl.String))


def _exchanged(events: pl.DataFrame, seed: int) -> pl.Series:
    """The histories of searches with as many purchases before them, in another order."""
    place = events["place"].to_numpy()
    order = np.arange(len(place))
    rng = np.random.default_rng([seed, 8])
    for length in np.unique(place):
        mine = np.flatnonzero(place == length)
        order[mine] = rng.permutation(mine)
    return events["history"].gather(order)
