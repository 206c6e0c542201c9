"""Contrastive training batches: pairs, hard negatives, labels, the false-negative mask.

Step s of seed r is a function of (r, s): a permutation of all positive pairs an epoch, and
negatives drawn for that step. So data order survives a kill without any state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neurosearch.errors import InputError
from neurosearch.negatives.base import NegativeLists


@dataclass
class TrainingPairs:
    """Judgments of the train split as arrays.

    Attributes:
        query, row: of the positive pairs.
        keys, shares: all judged pairs as query·N + row, ascending, and their share of the gain.
        queries, products: how many there are.
        title_of: product row to the number of its normalised title.
        query_of: query to the number of its normalised text.
        positive_share: from this share on a judged product is relevant.
        teacher: keys and scores of a teacher's run, or None.
    """

    query: np.ndarray
    row: np.ndarray
    keys: np.ndarray
    shares: np.ndarray
    queries: int
    products: int
    title_of: np.ndarray
    query_of: np.ndarray
    positive_share: float
    teacher: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(
        cls,
        graded: pl.DataFrame,
        titles: Sequence[str],
        queries: Sequence[str],
        positive_share: float,
        teacher: pl.DataFrame | None = None,
    ) -> TrainingPairs:
        """From `graded_pairs`. Raises InputError where nothing is a positive."""
        good = graded.filter(pl.col("share") >= positive_share)
        if good.is_empty():
            message = f"no train judgment is worth {positive_share} of the largest gain or more"
            raise InputError(f"encoder.positive_share: {message}")
        taught = None
        if teacher is not None:
            ordered = teacher.with_columns(key=pl.col("query") * len(titles) + pl.col("row"))
            ordered = ordered.sort("key")
            taught = ordered["key"].to_numpy(), ordered["score"].to_numpy()
        return cls(
            query=good["query"].to_numpy(),
            row=good["row"].to_numpy(),
            keys=(graded["query"] * len(titles) + graded["row"]).to_numpy(),
            shares=graded["share"].to_numpy(),
            queries=len(queries),
            products=len(titles),
            title_of=_numbers(titles),
            query_of=_numbers(queries),
            positive_share=positive_share,
            teacher=taught,
        )

    def look_up(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """len(queries)×len(rows) shares, NaN where the pair was not judged."""
        return _look_up(self.keys, self.shares, self._key(queries, rows))

    def taught(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """The teacher's scores of the pairs, NaN where it was not asked."""
        if self.teacher is None:
            return None
        return _look_up(*self.teacher, self._key(queries, rows))

    def _key(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        keys: np.ndarray = queries[:, None].astype(np.int64) * self.products + rows[None, :]
        return keys


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: np.ndarray = np.where(keys[places] == wanted, values[places], np.nan)
    return found


def _numbers(texts: Sequence[str]) -> np.ndarray:
    squeezed = pl.Series(texts).str.to_lowercase().str.replace_all(r"\W+", " ").str.strip_chars()
    numbers: np.ndarray = squeezed.rank("dense").to_numpy().astype(np.int64)
    return numbers


@dataclass
class PairBatches:
    """A map-style data set of batches, one a step.

    `mask` is the false-negative mask: a pair is refused as a negative where the product, its
    normalised title or the query's text is that of a positive pair, or where people judged
    it relevant.
    """

    pairs: TrainingPairs
    lists: list[tuple[int, NegativeLists]]
    batch_size: int
    steps: int
    seed: int
    mask: bool = True

    def __len__(self) -> int:
        return self.steps

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.pairs.query) // min(self.batch_size, len(self.pairs.query)))

    def __getitem__(self, step: int) -> dict[str, Any]:
        pairs = self.pairs
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(pairs.query))
        chosen = order[within * self.batch_size : (within + 1) * self.batch_size]
        queries, own = pairs.query[chosen], pairs.row[chosen]
        rng = np.random.default_rng([self.seed, 1, step])
        drawn = [own]
        for count, lists in self.lists:
            rows = lists.draw(queries, count, rng)
            random = rng.integers(0, pairs.products, rows.shape)
            drawn.append(np.where(rows >= 0, rows, random).ravel())
        rows = np.concatenate(drawn)
        return {"step": step, "queries": queries, "rows": rows, **self.targets(queries, rows)}

    def targets(self, queries: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """B×M arrays `positive`, `refused`, `gain`, `teacher` (see `loss.base.Targets`)."""
        pairs, size = self.pairs, len(queries)
        share = pairs.look_up(queries, rows)
        eye = np.zeros(share.shape, dtype=bool)
        eye[np.arange(size), np.arange(size)] = True
        taught = pairs.taught(queries, rows)
        if not self.mask:
            nothing = np.zeros_like(eye)
            return {"positive": eye, "refused": nothing, "gain": share, "teacher": taught}
        positive = np.nan_to_num(share) >= pairs.positive_share
        titles, texts = pairs.title_of[rows], pairs.query_of[queries]
        same_title = titles[:size, None] == titles[None, :]
        same_query = np.zeros_like(eye)
        same_query[:, :size] = texts[:, None] == texts[None, :]
        refused = (same_title | same_query) & ~positive & ~eye
        return {"positive": positive | eye, "refused": refused, "gain": share, "teacher": taught}
