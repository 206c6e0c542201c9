"""What a log says of a trial: sizes of the arms, the effect, guardrails, and whether to stop.

Units are callers (their ids in the log). The primary metric is clicks a search; the others are
guardrails: the second system must not be worse by more than a margin (one-sided, Holm over them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.evaluation.holm import holm
from neurosearch.trial.assignment import MISMATCH, sample_ratio
from neurosearch.trial.effect import Effect, of_one_ratio, of_ratios, separation

MARGINS = {
    "searches without a result": 0.01,
    "searches without a click": 0.02,
    "slow searches": 0.01,
}
SLOW = 0.99  # the control's quantile of milliseconds, beyond which a search is slow


@dataclass(frozen=True)
class Searches:
    """S searches of a trial.

    Attributes:
        frame: `client`, `arm`, `clicks`, `results`, `ms` (null where unknown), one row a search.
    """

    frame: pl.DataFrame

    def by_client(self, arm: str, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Sums and searches of each caller of an arm.

        Args:
            arm: its name.
            column: that is summed.

        Returns:
            U float64 twice.
        """
        own = self.frame.filter(pl.col("arm") == arm)
        sums = own.group_by("client", maintain_order=True).agg(pl.col(column).sum(), n=pl.len())
        return tuple(sums[name].cast(pl.Float64).to_numpy() for name in (column, "n"))  # type: ignore[return-value]


def ab_result(
    searches: Searches, arms: tuple[str, str], shares: tuple[float, ...]
) -> dict[str, Any]:
    """The outcome of an A/B trial.

    Args:
        searches: of both arms.
        arms: control and treatment.
        shares: of the callers that each arm should have.

    Returns:
        Units, the sample-ratio test, the effect, guardrails.

    Raises:
        InputError: an arm has fewer than two callers.
    """
    frame = searches.frame.with_columns(
        empty=(pl.col("results") == 0).cast(pl.Float64),
        left=(pl.col("clicks") == 0).cast(pl.Float64),
    )
    limit = frame.filter(pl.col("arm") == arms[0])["ms"].quantile(SLOW)
    slow = (pl.col("ms") > limit).fill_null(False) if limit is not None else pl.lit(False)
    whole = Searches(frame.with_columns(slow=slow.cast(pl.Float64)))
    units = [whole.frame.filter(pl.col("arm") == arm)["client"].n_unique() for arm in arms]
    if min(units) < 2:
        raise InputError(f"the trial has {units[0]} and {units[1]} callers: too few to compare")
    ratio = sample_ratio(units, shares)
    sides = [whole.by_client(arm, "clicks") for arm in arms]
    effect = of_ratios(sides[0], sides[1])
    guards = {
        name: of_ratios(whole.by_client(arms[0], column), whole.by_client(arms[1], column))
        for name, column in zip(MARGINS, ("empty", "left", "slow"), strict=True)
        if column != "slow" or limit is not None
    }
    return {
        "arms": list(arms),
        "callers": units,
        "sample ratio p": ratio,
        "mismatch": ratio < MISMATCH,
        "clicks a search": [float(over.sum() / under.sum()) for over, under in sides],
        "effect": described(effect),
        "smallest effect to be found": separation() * effect.error,
        "guardrails": guardrails(guards),
    }


def guardrails(effects: dict[str, Effect]) -> list[dict[str, Any]]:
    """Whether the treatment is shown not to be worse than a margin allows.

    Args:
        effects: of each guardrail; more is worse.

    Returns:
        One entry each: difference, margin, one-sided p (Holm), and `holds`: it is shown.
    """
    from scipy.stats import norm

    ps = []
    for name, effect in effects.items():
        room = MARGINS[name] - effect.difference
        at_edge = 0.0 if room > 0 else 1.0
        ps.append(float(norm.sf(room / effect.error)) if effect.error > 0 else at_edge)
    corrected = holm(np.array(ps))
    return [
        {
            "guardrail": name,
            "difference": effect.difference,
            "margin": MARGINS[name],
            "p": float(p),
            "holds": bool(p < 0.05),
        }
        for (name, effect), p in zip(effects.items(), corrected, strict=True)
    ]


def interleaving_result(
    clients: np.ndarray, preferences: np.ndarray, names: tuple[str, str]
) -> dict[str, Any]:
    """The outcome of an interleaved trial.

    Args:
        clients: S, who searched.
        preferences: S float64, above 0 for the second system.
        names: control and treatment.

    Returns:
        The mean preference with an error over callers, and a sign test over callers without ties.

    Raises:
        InputError: fewer than two callers.
    """
    from scipy.stats import binomtest

    _, unit = np.unique(clients, return_inverse=True)
    count = int(unit.max()) + 1
    if count < 2:
        raise InputError("the trial has one caller: too few to compare")
    over = np.bincount(unit, preferences, minlength=count)
    under = np.bincount(unit, minlength=count).astype(np.float64)
    wins, losses = int((over > 1e-12).sum()), int((over < -1e-12).sum())
    sign = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    return {
        "systems": list(names),
        "callers": count,
        "searches": len(preferences),
        "callers for the second": wins,
        "callers for the first": losses,
        "sign test p": float(sign),
        "effect": described(of_one_ratio(over, under)),
    }


def described(effect: Effect) -> dict[str, Any]:
    """An effect as JSON.

    Args:
        effect: a difference.

    Returns:
        Difference, interval, z and p.
    """
    low, high = effect.interval()
    return {
        "difference": effect.difference,
        "low": low,
        "high": high,
        "z": effect.z,
        "p": effect.p,
        "times the callers for 80 % power": (
            (separation() * effect.error / effect.difference) ** 2 if effect.difference else None
        ),
    }
