"""The fusion role, with ranx behind one adapter.

Fusions that learn take the member runs of the dev split and dev's judgments, and refuse
anything else: nothing can be tuned on test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from neurosearch.errors import InputError
from neurosearch.evaluation.gain import Gain
from neurosearch.recipe import Recipe
from neurosearch.types import Judgments, Queries, Run

NORMS = ("none", "min-max", "max", "sum", "zmuv", "rank", "borda", "theoretical")


@dataclass(frozen=True)
class DevSet:
    """What a learning fusion sees: members' dev runs by name, dev judgments, gains."""

    runs: Mapping[str, Run]
    queries: Queries
    judgments: Judgments
    gain: Gain

    def __post_init__(self) -> None:
        for split in (self.queries.split, self.judgments.split, *self._splits()):
            if split != "dev":
                raise InputError(f"fusion may learn from the dev split only, not from {split!r}")

    def _splits(self) -> list[str]:
        return [run.split for run in self.runs.values()]


@dataclass(frozen=True)
class Fusion(Recipe):
    """Base of fusions."""

    @property
    def learns(self) -> bool:
        """Whether `fuse` needs what `fit` learns on the dev split."""
        return False

    def fit(self, dev: DevSet) -> Mapping[str, Any]:
        """Parameters learnt on dev, JSON-able, with what was tried."""
        raise TypeError(f"{type(self).__name__} learns nothing")

    def fuse(
        self, runs: Mapping[str, Run], queries: Queries, learnt: Mapping[str, Any] | None = None
    ) -> Run:
        """One run of the members' runs (all of one split), unlimited in depth."""
        raise TypeError(f"{type(self).__name__} does not say how it fuses")


class Members:
    """Member runs as ranx holds them, converted once for any number of fusions."""

    def __init__(self, runs: Sequence[Run], queries: Queries) -> None:
        import ranx

        self._queries = queries
        frames = [run.frame for run in runs]
        self._ids = pl.concat([frame["product_id"] for frame in frames]).unique().sort()
        numbers = pl.DataFrame({"product_id": self._ids}).with_row_index("number", offset=1)
        self._runs = []
        for frame in frames:
            numbered = frame.join(numbers, on="product_id", maintain_order="left").select(
                "query_id", pl.col("number").cast(pl.String), "score"
            )
            lists = {
                query: dict(zip(products, scores, strict=True))
                for query, products, scores in numbered.group_by("query_id").agg(
                    "number", "score"
                ).iter_rows()
            }
            # ranx 0.3.21 crashes on empty lists: product 0 stands in and is dropped at the end.
            self._runs.append(ranx.Run({q: lists.get(q, {"0": 0.0}) for q in queries.ids}))

    def fuse(self, norm: str | None, method: str, params: Mapping[str, Any] | None = None) -> Run:
        """ranx's fusion of the members, as our run."""
        import ranx

        fused = ranx.fuse(self._runs, norm=norm, method=method, params=dict(params or {}))
        lengths, numbers, scores = _flattener()(fused.run)
        frame = pl.DataFrame(
            {
                "query_id": np.repeat(np.array(list(fused.run.keys()), dtype=object), lengths),
                "number": numbers,
                "score": scores,
            },
            {"query_id": pl.String, "number": pl.Int64, "score": pl.Float64},
        ).filter(pl.col("number") > 0)
        named = frame.with_columns(self._ids.gather(frame["number"] - 1).alias("product_id"))
        return Run.from_frame(named, self._queries)


@cache
def _flattener() -> Any:
    """Compiled: list lengths, document numbers and scores of a typed dict of typed dicts.

    Item by item from Python this takes seconds a run.
    """
    from numba import njit

    @njit
    def flatten(run: Any) -> Any:  # pragma: no cover - compiled
        total = 0
        for documents in run.values():
            total += len(documents)
        lengths = np.empty(len(run), np.int64)
        numbers = np.empty(total, np.int64)
        scores = np.empty(total, np.float64)
        row, at = 0, 0
        for documents in run.values():
            lengths[row] = len(documents)
            row += 1
            for document, score in documents.items():
                number = 0
                for character in document:
                    number = number * 10 + ord(character) - 48
                numbers[at] = number
                scores[at] = score
                at += 1
        return lengths, numbers, scores

    return flatten


def normalised(runs: Mapping[str, Run], norm: str) -> tuple[list[Run], str | None]:
    """The runs, and the name of ranx's normalisation still to be applied (None: none).

    `theoretical` min-max (Bruch et al. 2022, TM2C2) is ours: (s - floor) / (max - floor) per
    query, floor being the least score that the system can give, so that 0 means the same
    for a product that was not retrieved.
    """
    if norm not in NORMS:
        raise InputError(f"fusion.norm must be one of {', '.join(NORMS)}, not {norm!r}")
    if norm == "none":
        return list(runs.values()), None
    if norm != "theoretical":
        return list(runs.values()), norm
    scaled = []
    for name, run in runs.items():
        if run.floor is None:
            message = f"the scores of member {name!r} have no known floor: choose another"
            raise InputError(f"fusion.norm=theoretical: {message} fusion.norm")
        above = pl.col("score") - run.floor
        top = above.max().over("query_id")
        score = pl.when(top > 0).then(above / top).otherwise(0.0)
        frame = run.frame.with_columns(score=score)
        scaled.append(Run(run.split, frame, 0.0, run.query_ids))
    return scaled, None


def same_split(runs: Mapping[str, Run], queries: Queries) -> None:
    """Raise InputError unless all runs are of the queries' split."""
    for name, run in runs.items():
        if run.split != queries.split:
            raise InputError(f"member {name!r} is a run of {run.split}, not of {queries.split}")


def ordered_weights(weights: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Weights in the order of `names`. Raises InputError where the names differ."""
    if sorted(weights) != sorted(names):
        raise InputError(f"fusion.weights names {sorted(weights)}, the members are {sorted(names)}")
    return [float(weights[name]) for name in names]
