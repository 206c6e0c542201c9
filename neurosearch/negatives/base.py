"""The negatives role: for each train query a list of products that should score low."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.ragged import offsets_of
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Judgments, places_of
from neurosearch.evaluation.gain import Gain


@dataclass(frozen=True)
class NegativeLists:
    """Product rows by train query, in CSR form: query i has rows[indptr[i]:indptr[i + 1]]."""

    indptr: np.ndarray
    rows: np.ndarray

    def draw(self, queries: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Negatives of each query, drawn with replacement.

        Args:
            queries: B query numbers.
            count: negatives of each.
            rng: draws them.

        Returns:
            B×count product rows (int64); -1 where a list is empty.
        """
        sizes = (self.indptr[1:] - self.indptr[:-1])[queries]
        offsets = (rng.random((len(queries), count)) * sizes[:, None]).astype(np.int64)
        places = np.minimum(self.indptr[queries][:, None] + offsets, max(len(self.rows) - 1, 0))
        if len(self.rows) == 0:
            return np.full((len(queries), count), -1)
        return np.where(sizes[:, None] > 0, self.rows[places], -1)

    def padded(self, queries: int) -> NegativeLists:
        """The same lists, and empty ones for more queries.

        Args:
            queries: how many there are then, as many as now or more.

        Returns:
            The lists.
        """
        more = queries - (len(self.indptr) - 1)
        return NegativeLists(np.pad(self.indptr, (0, more), mode="edge"), self.rows)

    @classmethod
    def of(cls, query: np.ndarray, row: np.ndarray, queries: int) -> NegativeLists:
        """From pairs sorted by query number.

        Args:
            query: P numbers, ascending.
            row: P rows of products.
            queries: how many train queries there are.

        Returns:
            The lists.
        """
        counts = np.bincount(query, minlength=queries)
        return cls(offsets_of(counts), np.asarray(row, dtype=np.int64))


@dataclass(frozen=True)
class TrainingContext:
    """What the training set is: data, query processing, gains, and the positives' threshold.

    `positive_share`: a judged product is a positive from this share of the largest gain on.
    """

    data: Artifact[Dataset]
    query: QueryProcessor
    gain: Gain
    positive_share: float


@dataclass(frozen=True)
class Negatives(Recipe):
    """Base of negatives. `per_query`: how many go into a batch for each of its queries."""

    per_query: int = setting(0, least=0)

    def lists(self, context: TrainingContext) -> list[tuple[int, Artifact[NegativeLists]]]:
        """(how many a query, lists) for each source; none for in-batch negatives only.

        Args:
            context: what the training set is.

        Returns:
            One pair a source.
        """
        return []

    def sources(self) -> list[Negatives]:
        """The recipes behind `lists`, in the same order.

        Returns:
            One recipe a source.
        """
        return [self]

    @property
    def refresh(self) -> int:
        """Epochs after which the model in training mines this source anew; 0 for never."""
        return 0


def graded_pairs(data: Dataset, judgments: Judgments, gain: Gain) -> pl.DataFrame:
    """`query` and `row` numbers and `share` (of the largest gain, 0 to 1), by query, then row.

    Args:
        data: the data set, or a view of it.
        judgments: of one split.
        gain: what labels are worth.

    Returns:
        One row a judgment: Int64, Int64, Float64.

    Raises:
        InputError: no judgment is worth anything.
    """
    order = places_of(data.queries(judgments.split).ids, "query_id", "query")
    ids = places_of(data.catalogue.ids, "product_id", "row")
    graded = gain.graded(judgments)
    check_worth(graded, judgments.split, gain)
    share = pl.col("gain") / graded["gain"].max()
    return (
        graded.join(order, on="query_id")
        .join(ids, on="product_id")
        .select(pl.col("query", "row").cast(pl.Int64), share=share)
        .sort("query", "row")
    )


def check_worth(graded: pl.DataFrame, split: str, gain: Gain) -> None:
    """Raise InputError where no judgment of a split is worth anything: nothing can be learnt.

    Args:
        graded: what `Gain.graded` returned.
        split: `train`, `dev` or `test`.
        gain: what labels are worth.
    """
    if not (graded["gain"] > 0).any():
        message = f"no {split} judgment is worth anything under gain {gain.label()}"
        raise InputError(f"{message}: there is nothing to learn from")


def check_judged(data: Dataset, gain: Gain) -> None:
    """Raise InputError where there is nothing to train on, or no dev queries to validate with.

    Args:
        data: the data set, or a view of it.
        gain: what labels are worth.
    """
    check_worth(gain.graded(data.judgments("train")), "train", gain)
    data.queries("dev")


@dataclass(frozen=True)
class ListsArtifact(Artifact[NegativeLists]):
    """lists.npz, and statistics.json: how many were kept, and refused for which reason."""

    kind: ClassVar[str] = "negatives"
    context: TrainingContext

    def pairs(self, runtime: Runtime) -> tuple[pl.DataFrame, Mapping[str, int]]:
        """(`query`, `row`) sorted by query, and how many were refused by reason.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            The pairs (Int64), and counts by reason.
        """
        raise TypeError(f"{type(self).__name__} does not say where its negatives come from")

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        pairs, refused = self.pairs(runtime)
        queries = len(runtime.get(self.context.data).queries("train"))
        lists = NegativeLists.of(pairs["query"].to_numpy(), pairs["row"].to_numpy(), queries)
        np.savez(folder / "lists.npz", indptr=lists.indptr, rows=lists.rows)
        empty = int((np.diff(lists.indptr) == 0).sum())
        statistics = {"kept": pairs.height, "queries without": empty, "refused": dict(refused)}
        (folder / "statistics.json").write_text(json.dumps(statistics, indent=1), "utf-8")
        return statistics

    def load(self, folder: Path) -> NegativeLists:
        stored = np.load(folder / "lists.npz")
        return NegativeLists(stored["indptr"], stored["rows"])
