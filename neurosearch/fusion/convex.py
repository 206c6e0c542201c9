"""Convex combination of normalised scores: sum of w_r times norm(s_r), weights summing to one.

(Bruch, Gai, Ingber 2022: tuned, it beats RRF in and out of domain.) What is null, the weights
or the normalisation, is chosen on the dev split: every point of a grid over the simplex,
under every normalisation that the members allow, by mean nDCG@10. With `refine`, weight then
moves from member to member in smaller steps for as long as that helps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.fusion import base
from neurosearch.fusion.normalization import check, normalised

TRIED_NORMS = ("theoretical", "min-max", "zmuv")


@dataclass(frozen=True)
class Convex(base.Fusion):
    """Attributes:
    weights: by member name, summing to one; None to choose them on dev.
    norm: see `normalization`; None to choose among theoretical, min-max and zmuv on dev.
    step: of the grid of weights.
    refine: a smaller step of weight that is moved between two members after the grid; None for
        none.
    """

    weights: Mapping[str, float] | None = None
    norm: str | None = None
    step: float = 0.05
    refine: float | None = setting(None, above=0, most=0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm is not None:
            check(self.norm)
        if not 0 < self.step <= 0.5:
            raise self.error("step", f"must be above 0 and at most 0.5, not {self.step}")
        weights = list((self.weights or {"all": 1}).values())
        if abs(sum(weights) - 1) > 1e-6 or min(weights) < 0:
            raise self.error("weights", f"must be shares that sum to one, not {weights}")

    @property
    def learns(self) -> bool:
        return self.weights is None or self.norm is None

    def fit(self, dev: base.DevSet, held: Sequence[base.HeldSet] = ()) -> Mapping[str, Any]:
        from neurosearch.fusion.tuning import Pooled

        names = list(dev.runs)
        tried: list[tuple[float, str, tuple[float, ...]]] = []
        for norm in self._norms(dev.runs):
            pooled = Pooled.of(scale(dev.runs, norm), dev)
            mine = [(pooled.ndcg(point), norm, point) for point in self._points(names)]
            if self.refine is not None and self.weights is None:
                mine += refined(pooled.ndcg, max(mine, key=lambda trial: trial[0]), self.refine)
            tried += mine
        best, norm, point = max(tried, key=lambda trial: trial[0])  # the first of equals
        return {
            "norm": norm,
            "weights": dict(zip(names, point, strict=True)),
            "dev nDCG@10": best,
            "tried": [[norm, list(point), score] for score, norm, point in tried],
        }

    def _norms(self, runs: Mapping[str, Run]) -> Iterator[str]:
        for norm in TRIED_NORMS if self.norm is None else (self.norm,):
            floors_known = all(run.floor is not None for run in runs.values())
            if self.norm is not None or norm != "theoretical" or floors_known:
                yield norm

    def _points(self, names: Sequence[str]) -> list[tuple[float, ...]]:
        if self.weights is not None:
            return [tuple(base.ordered_weights(self.weights, names))]
        return simplex(len(names), self.step)

    def shares(
        self, runs: Mapping[str, Run], learnt: Mapping[str, Any] | None = None
    ) -> dict[str, pl.DataFrame]:
        chosen = {"norm": self.norm, "weights": self.weights, **(learnt or {})}
        if chosen["norm"] is None or chosen["weights"] is None:
            raise InputError("fusion=convex has not learnt its weights: it needs a dev split")
        weights = base.ordered_weights(chosen["weights"], list(runs))
        frames = weighted(scale(runs, chosen["norm"]), weights)
        return dict(zip(runs, frames, strict=True))

    def label(self) -> str:
        return "convex (tuned on dev)" if self.learns else "convex"


Trial = tuple[float, str, tuple[float, ...]]


def refined(score: Callable[[Sequence[float]], float], start: Trial, step: float) -> list[Trial]:
    """Coordinate ascent over the simplex: the best move of `step` between two members, repeatedly.

    Args:
        score: of a point, more is better.
        start: the score, normalisation and weights to start from.
        step: of weight.

    Returns:
        All that was tried.
    """
    tried, (best, norm, point) = [], start
    seen = {point}
    while True:
        moves = []
        for giver, taker in itertools.permutations(range(len(point)), 2):
            moved = list(point)
            moved[giver], moved[taker] = moved[giver] - step, moved[taker] + step
            candidate = tuple(round(weight, 6) for weight in moved)
            if candidate[giver] >= 0 and candidate not in seen:
                seen.add(candidate)
                moves.append((score(candidate), norm, candidate))
        tried += moves
        top = max(moves, key=lambda trial: trial[0], default=None)
        if top is None or top[0] <= best:
            return tried
        best, _, point = top


def scale(runs: Mapping[str, Run], norm: str) -> list[pl.DataFrame]:
    """The runs' frames with normalised scores."""
    return [normalised(name, run, norm) for name, run in runs.items()]


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
