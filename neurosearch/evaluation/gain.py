"""Gains: what a published label is worth, as named presets.

Every nDCG is computed with trec_eval's linear formula over these gains, scaled to integers,
so a preset is data: `gains` for the headline, `levels` l for the exponential one, which is
worth 2^l - 1 (Burges et al. 2005). nDCG doesn't change when all gains are scaled alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.types import Judgments

SCALE = 1000  # gains as integers, to three decimals
LARGEST = 100.0  # level of a label: sums of 2^level, or of 10^level, stay far from overflow


@dataclass(frozen=True)
class Gain(Recipe):
    """Base of gains. `name` is the preset's, printed with every table."""

    name: str

    def values(self, labels: pl.Series) -> pl.DataFrame:
        """Columns `gain` and `level` (Float64) and `relevant` (Boolean) of String labels.

        Args:
            labels: as published (String).

        Returns:
            One row a label, in their order.

        Raises:
            InputError: a label that this gain does not know.
        """
        raise TypeError(f"{type(self).__name__} does not say what labels are worth")

    def graded(self, judgments: Judgments) -> pl.DataFrame:
        """`query_id`, `product_id`, `gain`, `level`, `relevant` of the judgments.

        Args:
            judgments: of one split.

        Returns:
            One row a judgment, in their order.
        """
        frame = judgments.frame
        return frame.select("query_id", "product_id").hstack(self.values(frame["label"]))

    def words(self) -> str:
        """What labels are worth, as a reader of a table wants to know it.

        Returns:
            One line.
        """
        raise TypeError(f"{type(self).__name__} does not say what labels are worth")

    def check(self, labels: pl.Series) -> None:
        """Raise InputError for labels that this gain can't be meant for.

        Args:
            labels: as published (String).
        """
        self.values(labels.unique().sort())

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

    def words(self) -> str:
        worth = ", ".join(f"{label} {value:g}" for label, value in self.gains.items())
        return f"{worth}; relevant: {', '.join(self.relevant)}"


@dataclass(frozen=True)
class NumericGain(Gain):
    """Numeric labels: gain = level = label - `offset`; `convex` makes gain 10^level - 1.

    A label of at least `relevant_from` (None: of level 1) is relevant for the binary metrics. An
    `offset` of None is 0, for labels whose lowest is 0 (or that are all the same).
    """

    offset: float | None = None
    relevant_from: float | None = None
    convex: bool = False

    def values(self, labels: pl.Series) -> pl.DataFrame:
        numbers = labels.cast(pl.Float64, strict=False)
        if numbers.null_count():
            wrong = labels.filter(numbers.is_null())[0]
            hint = "of your own tables, data.grades says what a name is worth"
            raise InputError(f"gain {self.name} needs numeric labels, not {wrong!r} ({hint})")
        if not numbers.is_finite().all():
            wrong = labels.filter(~numbers.is_finite())[0]
            raise InputError(f"gain {self.name}: the label {wrong!r} is no finite number")
        level = (numbers - (self.offset or 0.0)).clip(0)
        if level.to_numpy().max(initial=0) > LARGEST:
            raise InputError(f"gain {self.name}: a label is worth more than {LARGEST:g}")
        gain = 10**level - 1 if self.convex else level
        return pl.DataFrame({"gain": gain, "level": level, "relevant": numbers >= self._from})

    @property
    def _from(self) -> float:
        return 1.0 + (self.offset or 0.0) if self.relevant_from is None else self.relevant_from

    def words(self) -> str:
        offset = self.offset or 0.0
        sign = "-" if offset > 0 else "+"
        level = f"label {sign} {abs(offset):g}" if offset else "label"
        worth = f"10^({level}) - 1" if self.convex else level
        return f"gain = {worth}; relevant from {self._from:g}"

    def check(self, labels: pl.Series) -> None:
        self.values(labels.unique().sort())
        if self.offset is not None:
            return
        known = labels.unique().cast(pl.Float64)
        least, most = known.to_numpy().min(), known.to_numpy().max()
        if least > 0 and most > least:
            message = f"the labels are {least:g} to {most:g}, and the lowest would gain {least:g}"
            raise InputError(
                f"{message}: say evaluation.gain.offset={least:g} (it gains nothing), or "
                "evaluation.gain.offset=0 if that is meant"
            )
