"""Convex combination of normalised scores: sum of w_r times norm(s_r), weights summing to one.

(Bruch, Gai, Ingber 2022: tuned, it beats RRF in and out of domain.) With `weights` null they
are chosen on the dev split: every point of a grid over the simplex, best mean nDCG@10.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from neurosearch.errors import InputError
from neurosearch.fusion import base
from neurosearch.fusion.normalization import check, normalised
from neurosearch.types import Queries, Run


@dataclass(frozen=True)
class Convex(base.Fusion):
    """Attributes:
    weights: by member name, summing to one; None to learn them on dev.
    norm: see `normalization`.
    step: of the grid.
    """

    weights: Mapping[str, float] | None = None
    norm: str = "theoretical"
    step: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.norm)
        if not 0 < self.step <= 0.5:
            raise InputError(f"fusion.step must be above 0 and at most 0.5, not {self.step}")
        if self.weights is not None and abs(sum(self.weights.values()) - 1) > 1e-6:
            raise InputError(f"fusion.weights must sum to one, not {dict(self.weights)}")

    @property
    def learns(self) -> bool:
        return self.weights is None

    def fit(self, dev: base.DevSet) -> Mapping[str, Any]:
        from neurosearch.evaluation.metrics import per_query

        names = list(dev.runs)
        scaled = self._scaled(dev.runs)
        tried = []
        for point in simplex(len(names), self.step):
            fused = base.combine(weighted(scaled, point), dev.queries)
            scores = per_query(fused, dev.queries, dev.judgments, dev.gain, ("nDCG@10",))
            tried.append((float(scores["nDCG@10"].to_numpy().mean()), point))
        # The first of equals, and the grid runs from the first member's side.
        best, point = max(tried, key=lambda pair: pair[0])
        return {
            "weights": dict(zip(names, point, strict=True)),
            "dev nDCG@10": best,
            "tried": [[list(point), score] for score, point in tried],
        }

    def fuse(
        self, runs: Mapping[str, Run], queries: Queries, learnt: Mapping[str, Any] | None = None
    ) -> Run:
        base.same_split(runs, queries)
        chosen = self.weights if self.weights is not None else (learnt or {}).get("weights")
        if chosen is None:
            raise InputError("fusion=convex has not learnt its weights: it needs a dev split")
        weights = tuple(base.ordered_weights(chosen, list(runs)))
        return base.combine(weighted(self._scaled(runs), weights), queries)

    def _scaled(self, runs: Mapping[str, Run]) -> list[pl.DataFrame]:
        return [normalised(name, run, self.norm) for name, run in runs.items()]

    def label(self) -> str:
        return "convex (tuned on dev)" if self.weights is None else "convex"


def weighted(frames: Sequence[pl.DataFrame], weights: Sequence[float]) -> list[pl.DataFrame]:
    """The frames with scores times their weight."""
    pairs = zip(frames, weights, strict=True)
    return [frame.with_columns(pl.col("score") * weight) for frame, weight in pairs]


def simplex(members: int, step: float) -> list[tuple[float, ...]]:
    """All weightings of `members` runs in multiples of `step` that sum to one."""
    units = round(1 / step)
    points = itertools.product(range(units, -1, -1), repeat=members - 1)
    return [
        tuple(round(n / units, 6) for n in (*point, units - sum(point)))
        for point in points
        if sum(point) <= units
    ]
