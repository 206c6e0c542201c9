"""The fusion role. Every fusion here is a sum, over runs, of transformed scores.

The sums are ours, in polars: ranx 0.3.21, whose definitions these are and which the tests
compare with, corrupts memory where a fused score is exactly 0 (numba dictionaries written
again under the same key), and normalised scores often are.

Fusions that learn take the member runs of the dev split and dev's judgments, and refuse
anything else: nothing can be tuned on test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.run import Run
from neurosearch.core.types import Judgments, Queries
from neurosearch.evaluation.gain import Gain


@dataclass(frozen=True)
class DevSet:
    """What a learning fusion sees: members' dev runs by name, dev judgments, gains."""

    split: ClassVar[str] = "dev"
    runs: Mapping[str, Run]
    queries: Queries
    judgments: Judgments
    gain: Gain

    def __post_init__(self) -> None:
        for split in (self.queries.split, self.judgments.split, *self._splits()):
            if split != self.split:
                message = f"fusion may learn from the {self.split} split only, not from {split!r}"
                raise InputError(message)

    def _splits(self) -> list[str]:
        return [run.split for run in self.runs.values()]


@dataclass(frozen=True)
class HeldSet(DevSet):
    """The same of train queries, by members that were trained and tuned without them."""

    split: ClassVar[str] = "train"


@dataclass(frozen=True)
class Fusion(Recipe):
    """Base of fusions."""

    @property
    def learns(self) -> bool:
        """Whether `fuse` needs what `fit` learns on the dev split."""
        return False

    @property
    def held_folds(self) -> int:
        """Of the train queries, each fold's lists by members that never saw it; 0: none."""
        return 0

    def fit(self, dev: DevSet, held: Sequence[HeldSet] = ()) -> Mapping[str, Any]:
        """Parameters learnt on dev, JSON-able, with what was tried.

        Args:
            dev: the members' runs of the dev split, with its judgments.
            held: for each of `held_folds` the runs of its train queries.

        Returns:
            What `fuse` takes as `learnt`.
        """
        raise TypeError(f"{type(self).__name__} learns nothing")

    def shares(
        self, runs: Mapping[str, Run], learnt: Mapping[str, Any] | None = None
    ) -> dict[str, pl.DataFrame]:
        """What each member adds to the fused scores of the products that it found.

        Args:
            runs: by the members' names.
            learnt: what `fit` returned, for fusions that learn.

        Returns:
            By member, `query_id`, `product_id`, `score`.

        Raises:
            InputError: members that `learnt` does not have, or nothing learnt where it is needed.
        """
        raise TypeError(f"{type(self).__name__} does not say what its members add")

    def fuse(
        self, runs: Mapping[str, Run], queries: Queries, learnt: Mapping[str, Any] | None = None
    ) -> Run:
        """One run of the members' runs (all of one split), unlimited in depth.

        Args:
            runs: by the members' names.
            queries: of the runs' split.
            learnt: what `fit` returned, for fusions that learn.

        Returns:
            The fused run.

        Raises:
            InputError: runs of different splits, or members that `learnt` does not have.
        """
        same_split(runs, queries)
        return combine(list(self.shares(runs, learnt).values()), queries)


def combine(frames: Sequence[pl.DataFrame], queries: Queries) -> Run:
    """The sum of what the members add (CombSUM, Fox and Shaw 1994).

    Args:
        frames: of each member, what it adds to a product's score.
        queries: of the split.

    Returns:
        One run, unlimited in depth.
    """
    columns = ("query_id", "product_id", "score")
    pooled = pl.concat([frame.select(columns) for frame in frames])
    total = pl.col("score").sum()
    return Run.from_frame(pooled.group_by("query_id", "product_id").agg(total), queries)


def same_split(runs: Mapping[str, Run], queries: Queries) -> None:
    """Raise InputError unless all runs are of the queries' split.

    Args:
        runs: by the members' names.
        queries: of one split.
    """
    for name, run in runs.items():
        if run.split != queries.split:
            raise InputError(f"member {name!r} is a run of {run.split}, not of {queries.split}")


def ordered_weights(weights: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Weights in the order of `names`.

    Args:
        weights: by the members' names.
        names: of the members.

    Returns:
        One weight a name.

    Raises:
        InputError: the names differ.
    """
    if sorted(weights) != sorted(names):
        raise InputError(f"fusion.weights names {sorted(weights)}, the members are {sorted(names)}")
    return [float(weights[name]) for name in names]
