"""The profile role: scores of all products for somebody with a history, and perhaps a query.

A history is the products that were bought before a query, oldest first (the queries' column
`history`). What is learnt is learnt from the train queries' histories and purchases alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Judgments, Queries, places_of
from neurosearch.data.histories import history_rows


class Taste(Protocol):
    """A loaded profile. Its scores are of any scale, and more is better."""

    def scores(self, texts: Sequence[str], histories: np.ndarray) -> np.ndarray:
        """Scores of all N products.

        Args:
            texts: Q queries, processed.
            histories: Q×T product rows, oldest first, filled up with -1 in front.

        Returns:
            Q×N float32.
        """


@dataclass(frozen=True)
class Profile(Recipe):
    """Base of profiles. `longest`: products of a history that are read, the newest ones."""

    longest: int = setting(20, least=1)

    def learnt(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        """What is learnt from, or made of, the data.

        Args:
            data: the data set, or a view of it.

        Returns:
            Artifacts, all that `taste` loads.
        """
        return []

    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> Taste:
        """The loaded profile.

        Args:
            data: the data set, or a view of it.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            What scores products.
        """
        raise TypeError(f"{type(self).__name__} does not say how it scores")


@dataclass(frozen=True)
class Purchases:
    """The purchases of a split's queries.

    Attributes:
        texts: Q query texts.
        histories: Q×T product rows, oldest first, -1 in front.
        bought: Q product rows.
    """

    texts: list[str]
    histories: np.ndarray
    bought: np.ndarray

    def sequences(self) -> list[tuple[int, ...]]:
        """What each person bought, in order; beginnings of longer ones are left out.

        Returns:
            Tuples of product rows.
        """
        whole = [
            (*(int(row) for row in line if row >= 0), int(last))
            for line, last in zip(self.histories, self.bought, strict=True)
        ]
        begun = {one[:end] for one in whole for end in range(1, len(one))}
        return sorted({one for one in whole if one not in begun})


def purchases(data: Dataset, split: str, longest: int) -> Purchases:
    """What a split's queries ended in: the pairs that people's judgments name.

    Args:
        data: with products, and the split's queries and judgments.
        split: `train` or `dev`.
        longest: products of a history.

    Returns:
        One entry a judged pair.
    """
    return bought_by(data, data.queries(split), data.judgments(split), longest)


def bought_by(data: Dataset, queries: Queries, judgments: Judgments, longest: int) -> Purchases:
    """As `purchases`, of given queries.

    Args:
        data: with products.
        queries: with a column `history`.
        judgments: every pair counts as bought.
        longest: products of a history.

    Returns:
        One entry a judged pair of these queries.
    """
    histories = history_rows(queries.frame, data.catalogue, longest)
    pairs = (
        judgments.frame.join(places_of(queries.ids, "query_id", "query"), on="query_id")
        .join(places_of(data.catalogue.ids, "product_id", "row"), on="product_id")
        .select(pl.col("query", "row").cast(pl.Int64))
        .sort("query", "row")
    )
    query = pairs["query"].to_numpy()
    texts = queries.texts
    return Purchases([texts[n] for n in query], histories[query], pairs["row"].to_numpy())
