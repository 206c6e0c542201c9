"""Gains: what a published label is worth, as named presets (METHODS 1.3).

Every nDCG is computed with trec_eval's linear formula over these gains, scaled to integers,
so a preset is data: `gains` for the headline, `levels` l for the exponential one, which is
worth 2^l - 1 (Burges et al. 2005). nDCG doesn't change when all gains are scaled alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from neurosearch.errors import InputError
from neurosearch.recipe import Recipe
from neurosearch.types import Judgments

SCALE = 1000  # gains as integers, to three decimals


@dataclass(frozen=True)
class Gain(Recipe):
    """Base of gains. `name` is the preset's, printed with every table."""

    name: str

    def values(self, labels: pl.Series) -> pl.DataFrame:
        """Columns `gain` and `level` (Float64) and `relevant` (Boolean) of String labels."""
        raise TypeError(f"{type(self).__name__} does not say what labels are worth")

    def graded(self, judgments: Judgments) -> pl.DataFrame:
        """`query_id`, `product_id`, `gain`, `level`, `relevant` of the judgments."""
        frame = judgments.frame
        return frame.select("query_id", "product_id").hstack(self.values(frame["label"]))

    def label(self) -> str:
        return self.name


@dataclass(frozen=True)
class LabelGain(Gain):
    """Gains of named labels; `relevant` are those that Recall, MRR, MAP and Hits count."""

    gains: Mapping[str, float]
    levels: Mapping[str, float]
    relevant: tuple[str, ...]

    def values(self, labels: pl.Series) -> pl.DataFrame:
        unknown = labels.filter(~labels.is_in(list(self.gains)))
        if len(unknown):
            known = ", ".join(self.gains)
            raise InputError(f"gain {self.name} has no label {unknown[0]!r} (it has {known})")
        gains = {key: float(value) for key, value in self.gains.items()}
        levels = {key: float(value) for key, value in self.levels.items()}
        return pl.DataFrame(
            {
                "gain": labels.replace_strict(gains, return_dtype=pl.Float64),
                "level": labels.replace_strict(levels, return_dtype=pl.Float64),
                "relevant": labels.is_in(list(self.relevant)),
            }
        )


@dataclass(frozen=True)
class NumericGain(Gain):
    """Numeric labels: gain = level = label - `offset`; `convex` makes gain 10^level - 1.

    A label of at least `relevant_from` counts as relevant for the binary metrics.
    """

    offset: float = 0.0
    relevant_from: float = 1.0
    convex: bool = False

    def values(self, labels: pl.Series) -> pl.DataFrame:
        numbers = labels.cast(pl.Float64, strict=False)
        if numbers.null_count():
            wrong = labels.filter(numbers.is_null())[0]
            raise InputError(f"gain {self.name} needs numeric labels, not {wrong!r}")
        level = (numbers - self.offset).clip(0)
        gain = 10**level - 1 if self.convex else level
        return pl.DataFrame(
            {"gain": gain, "level": level, "relevant": numbers >= self.relevant_from}
        )
