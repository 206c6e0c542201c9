"""The simulated shop: a built-in data set for tests, demonstrations and planted-factor studies.

Its numbers say nothing about real shops, and every table says so. What it is good for: each
mechanism has something to work on (a taxonomy, brands, attributes in titles or only in
bullets, synonyms, a vocabulary gap, typos, model numbers, negations, accessories, judgment
holes, pictures, sessions), and it is there on any machine, from 500 products to ten million.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data import base
from neurosearch.data.simulation import images, products, queries, sessions
from neurosearch.data.simulation.products import CHUNK, Codes
from neurosearch.data.simulation.world import World, build_world

ASKED = 1_000_000  # a chunk number that no products have: pictures of queries are drawn anew


@dataclass(frozen=True)
class Shop(base.Data):
    """Deterministic in its fields.

    Attributes:
        seed: of the shop itself; a sweep over the root's seed must not change the data.
        n_products: 500 to 10 million; the first products don't depend on it.
        typos: share of the queries that get a slip of the keys besides those that have one.
        synonyms: share of a query's words that are replaced by one that no product has, where the
            world knows one.
        images: draw pictures (a third of a millisecond each), of products and for queries.
    """

    choice: ClassVar[str] = "shop"
    simulated: ClassVar[bool] = True
    seed: int = 13
    n_products: int = 2000
    n_queries: int = 400
    n_sessions: int = 2000
    typos: float = setting(0.0, least=0, most=1)
    synonyms: float = setting(0.0, least=0, most=1)
    images: bool = True

    def tables(self, runtime: Runtime) -> base.Tables:
        world, codes, frame, intents = self.drawn()
        order = np.argsort(codes.type, kind="stable")
        bounds = np.searchsorted(codes.type[order], np.arange(len(world.types) + 1))
        by_type = [order[a:b] for a, b in itertools.pairwise(bounds)]
        pools = [
            queries.pool(world, codes, by_type, intent, self.seed, number)
            for number, intent in enumerate(intents)
        ]
        if self.images:  # the same attributes, seen otherwise
            sources = codes.take(np.array([intent.source for intent in intents]))
            drawn = images.draw(world, sources, self.seed, ASKED)
            frame = frame.with_columns(pl.Series("image", drawn, pl.Binary))
        query_ids = frame["query_id"].to_list()
        ids = pl.Series([f"P{row:08d}" for row in range(self.n_products)])
        judgments = pl.DataFrame(
            {
                "query_id": np.repeat(query_ids, [len(rows) for rows, _ in pools]),
                "product_id": ids.gather(np.concatenate([rows for rows, _ in pools])),
                "label": queries.LABELS[np.concatenate([labels for _, labels in pools])],
            }
        )
        train = set(frame.filter(pl.col("split") == "train")["query_id"])
        judged = {q: p for q, p in zip(query_ids, pools, strict=True) if q in train}
        events = None
        if self.n_sessions:
            events = sessions.simulate(
                world, codes, by_type, judged, ids, self.seed, self.n_sessions
            )
        return base.Tables(self._products(world, codes, runtime), frame, judgments, events)

    def drawn(self) -> tuple[World, Codes, pl.DataFrame, list[queries.Intent]]:
        """The world, the products' codes, the queries and what they ask for.

        Returns:
            Intents are in the order of the queries.

        Raises:
            InputError: a size out of bounds.
        """
        if not 500 <= self.n_products <= 10_000_000:
            raise InputError(f"data.n_products must be 500 to 10000000, not {self.n_products}")
        if self.n_queries < 10:
            raise InputError(f"data.n_queries must be at least 10, not {self.n_queries}")
        world = build_world(self.seed)
        parts = [products.draw_codes(world, self.seed, n, size) for n, _, size in self._chunks()]
        codes = Codes.concatenate(parts)
        frame, intents = queries.draw_queries(world, codes, self.seed, self.n_queries)
        if self.typos or self.synonyms:
            frame = queries.disturbed(world, frame, self.seed, self.typos, self.synonyms)
        return world, codes, frame, intents

    def _chunks(self) -> Iterator[tuple[int, int, int]]:
        """Number, first row and size of each chunk; a chunk is always drawn whole."""
        for number, first in enumerate(range(0, self.n_products, CHUNK)):
            yield number, first, min(CHUNK, self.n_products - first)

    def _products(self, world: World, codes: Codes, runtime: Runtime) -> Iterator[pl.DataFrame]:
        with runtime.progressing("products", self.n_products) as done:
            for number, first, size in self._chunks():
                chunk = codes.take(np.arange(first, first + size))
                frame = products.write_texts(world, chunk, self.seed, number, first)
                if self.images:
                    drawn = images.draw(world, chunk, self.seed, number)
                    frame = frame.with_columns(pl.Series("image", drawn, pl.Binary))
                yield frame
                done(size)
