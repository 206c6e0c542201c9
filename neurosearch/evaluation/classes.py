"""Labels as classes, from the worst to the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe


@dataclass(frozen=True)
class Classes(Recipe):
    """Attributes:
    names: of the classes, worst first.
    cuts: for numeric labels, ascending: a label of at least cuts[i] is in class i + 1 or better;
        empty where the names are the labels.
    """

    names: tuple[str, ...] = ("I", "C", "S", "E")
    cuts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise self.error("names", f"must be two or more, each once, not {list(self.names)}")
        if self.cuts and len(self.cuts) != len(self.names) - 1:
            raise self.error("cuts", f"must be one less than the {len(self.names)} names")
        if list(self.cuts) != sorted(set(self.cuts)):
            raise self.error("cuts", f"must ascend, not {list(self.cuts)}")

    def of(self, labels: pl.Series) -> np.ndarray:
        """The number of each label's class.

        Args:
            labels: as published (String).

        Returns:
            N int64, 0 for the worst class.

        Raises:
            InputError: a label that belongs to no class.
        """
        if self.cuts:
            numbers = labels.cast(pl.Float64, strict=False)
            if numbers.null_count():
                wrong = labels.filter(numbers.is_null())[0]
                raise InputError(f"evaluation.classes.cuts: the label {wrong!r} is no number")
            found: np.ndarray = np.searchsorted(self.cuts, numbers.to_numpy(), side="right")
            return found.astype(np.int64)
        unknown = labels.filter(~labels.is_in(list(self.names)))
        if len(unknown):
            known = ", ".join(self.names)
            raise InputError(f"evaluation.classes.names: no class {unknown[0]!r} (known: {known})")
        places = {name: number for number, name in enumerate(self.names)}
        return labels.replace_strict(places, return_dtype=pl.Int64).to_numpy()
