"""The detector role: a statistic of a reference and a window, and how often chance gives as much.

Thresholds are never fixed: with 30 bins and 500 queries a side, the usual PSI > .1 alarms in 64 %
of windows where nothing changed. Instead whole *units* (users, or days of a user) are dealt to the
two sides again and again, and the statistic is compared with what that gives. Queries of one user
are alike, so dealing out single queries would call too much a change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe

NUMBERS, LABELS, VECTORS = "numbers", "labels", "vectors"
LEAST = 50  # of each side
TIES = 1e-9  # relative; permutations that give the same statistic but for rounding


@dataclass(frozen=True)
class Sample:
    """Both sides in one: the reference first.

    Attributes:
        values: N numbers (float64), N labels (int64), or N×D vectors (float32).
        in_window: N bool.
        units: N int64, the number of each one's user; equal ones are dealt together.
    """

    values: np.ndarray
    in_window: np.ndarray
    units: np.ndarray

    @classmethod
    def of(
        cls,
        reference: np.ndarray,
        window: np.ndarray,
        reference_units: np.ndarray | None = None,
        window_units: np.ndarray | None = None,
    ) -> Sample:
        """Two sides.

        Args:
            reference, window: numbers, labels or vectors.
            reference_units, window_units: of users; None where each is a user of its own. The same
                number on both sides is the same user.

        Returns:
            The sample.

        Raises:
            InputError: a side has fewer than LEAST.
        """
        for name, side in (("reference", reference), ("window", window)):
            if len(side) < LEAST:
                raise InputError(f"the {name} has {len(side)} queries; {LEAST} are needed")
        if reference_units is None or window_units is None:
            units = np.arange(len(reference) + len(window))
        else:
            units = np.concatenate([reference_units, window_units])
        inside = np.repeat([False, True], [len(reference), len(window)])
        values = np.concatenate([reference, window])
        return cls(values, inside, np.unique(units, return_inverse=True)[1])


@dataclass(frozen=True)
class Finding:
    """What a detector found.

    Attributes:
        statistic: observed.
        p: chance of one as large where nothing has changed.
        null: the 95th percentile of the statistic then.
    """

    statistic: float
    p: float
    null: float


@dataclass(frozen=True)
class Detector(Recipe):
    """Base of detectors. `permutations`: dealings that the null distribution is made of.

    Class attributes:
        reads: what it compares: `numbers`, `labels` or `vectors`.
    """

    permutations: int = setting(999, least=19, most=1_000_000)

    reads: ClassVar[str]

    def statistics(self, sample: Sample, members: np.ndarray) -> np.ndarray:
        """The statistic of each dealing.

        Args:
            sample: all values.
            members: B×N bool: who is in the window.

        Returns:
            B float64; larger is more change.
        """
        raise TypeError(f"{type(self).__name__} does not say what it measures")

    def compare(self, sample: Sample, rng: np.random.Generator) -> Finding:
        """Hold the observed statistic against dealings of the units.

        Args:
            sample: both sides.
            rng: of the dealings.

        Returns:
            The statistic, its p-value (with the observed dealing counted in), and the null's 95 %.

        Raises:
            InputError: the values are all the same, or not finite.
        """
        check_values(sample.values, self.label())
        dealt = dealings(sample, self.permutations, rng)
        found = self.statistics(sample, np.concatenate([sample.in_window[None], dealt]))
        observed, null = float(found[0]), found[1:]
        least = observed - TIES * max(1.0, abs(observed))
        p = (1 + int((null >= least).sum())) / (1 + len(null))
        return Finding(observed, p, float(np.quantile(null, 0.95)))

    def label(self) -> str:
        return type(self).__name__


def check_values(values: np.ndarray, name: str) -> None:
    """Raise InputError where there is nothing to compare.

    Args:
        values: of both sides.
        name: of the detector, for the error.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{name}: some values are not finite")
    if (values == values[0]).all():
        raise InputError(f"{name}: all values are the same; there is nothing to compare")


def dealings(sample: Sample, count: int, rng: np.random.Generator) -> np.ndarray:
    """Units dealt to the two sides by chance, as many queries to the window as it has.

    Units are put in a random order, and the window takes them until it is full: the last one may
    overfill it, or is left out, whichever is closer.

    Args:
        sample: both sides.
        count: of the dealings.
        rng: of the orders.

    Returns:
        count×N bool: who is in the window.
    """
    sizes = np.bincount(sample.units)
    wanted = int(sample.in_window.sum())
    members = np.empty((count, len(sample.units)), dtype=bool)
    for number in range(count):
        order = rng.permutation(len(sizes))
        filled = np.cumsum(sizes[order])
        taken = int(np.argmin(np.abs(filled - wanted))) + 1
        chosen = np.zeros(len(sizes), dtype=bool)
        chosen[order[:taken]] = True
        members[number] = chosen[sample.units]
    return members


def shares(codes: np.ndarray, bins: int, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of each bin in the reference and the window, half a one added to each.

    Args:
        codes: N int64, the bin of each value.
        bins: how many there are.
        members: B×N bool: who is in the window.

    Returns:
        Shares of the reference and of the window, each B×bins.
    """
    indicators = np.zeros((len(codes), bins), dtype=np.float32)
    indicators[np.arange(len(codes)), codes] = 1
    inside = members.astype(np.float32) @ indicators + 0.5
    outside = indicators.sum(axis=0) + 1.0 - inside
    return (
        outside / outside.sum(axis=1, keepdims=True),
        inside / inside.sum(axis=1, keepdims=True),
    )
