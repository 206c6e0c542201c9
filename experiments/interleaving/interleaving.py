"""Five ways to interleave: bias, fidelity and sensitivity, under four models of users.

Run: python experiments/interleaving/interleaving.py (writes results/simulated.md and .csv)

Lists of ten products with known grades. Pairs of systems: `equal` (two orders of the same products
of the same grades, so that nobody is better), `small` (two neighbours of different grades swapped),
`far` (truth with much noise against truth with little). Bias: the mean preference when every
product attracts alike, and its z. Fidelity: how often 200 impressions prefer the better system.
Sensitivity: impressions for 80 % power.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from neurosearch.core.machine import git_commit, hardware
from neurosearch.interleaving.balanced import Balanced
from neurosearch.interleaving.base import Interleaving
from neurosearch.interleaving.debiased_balanced import DebiasedBalanced
from neurosearch.interleaving.optimized import Optimized
from neurosearch.interleaving.probabilistic import Probabilistic
from neurosearch.interleaving.team_draft import TeamDraft
from neurosearch.trial.effect import separation
from neurosearch.users.base import Users
from neurosearch.users.kinds import KINDS

METHODS: tuple[Interleaving, ...] = (
    *(TeamDraft(), Balanced(), DebiasedBalanced(), Probabilistic(), Optimized()),
)
PRODUCTS, K, QUERIES, SHOWN, TRIAL = 20, 10, 100, 400, 200
POWER = separation() ** 2
RESULTS = Path(__file__).with_name("results")


def pairs_of(kind: str, rng: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
    """Grades of the products, and two lists, the second one the better, for every query."""
    found: list[tuple[np.ndarray, ...]] = []
    for _ in range(QUERIES):
        grades = rng.choice(4, size=PRODUCTS, p=(0.5, 0.2, 0.2, 0.1))
        good = np.argsort(-(grades + rng.normal(0, 0.5, PRODUCTS)))[:K]
        if kind == "equal":
            grades = np.full(PRODUCTS, 2)
            found.append((grades, good, rng.permutation(good)))
        elif kind == "small":
            swapped = np.flatnonzero(grades[good[:-1]] > grades[good[1:]])
            if len(swapped):
                place, worse = int(rng.choice(swapped)), good.copy()
                worse[[place, place + 1]] = worse[[place + 1, place]]
                found.append((grades, worse, good))
        else:
            worse = np.argsort(-(grades + rng.normal(0, 3.0, PRODUCTS)))[:K]
            found.append((grades, worse, good))
    return found


def preferences(
    method: Interleaving, users: Users, pairs: list[tuple[np.ndarray, ...]], seed: int
) -> np.ndarray:
    """Preferences of all impressions, in a random order."""
    rng = np.random.default_rng(seed)
    parts = []
    for grades, first, second in pairs:
        mixed = method.mixed(first, second, SHOWN, rng)
        held = np.where(mixed.lists >= 0, grades[np.maximum(mixed.lists, 0)], -1)
        parts.append(method.preference(mixed, users.clicks(held, rng)))
    return rng.permutation(np.concatenate(parts))


def main(arguments: Sequence[str]) -> None:
    """Simulate, and write the table."""
    rows = []
    for kind, users in KINDS.items():
        for method in METHODS:
            row: dict[str, object] = {"users": kind, "method": type(method).__name__}
            equal = preferences(method, users, pairs_of("equal", np.random.default_rng(0)), 1)
            error = equal.std() / np.sqrt(len(equal))
            row["bias"] = float(equal.mean())
            row["bias z"] = float(equal.mean() / error) if error else 0.0
            for pair in ("small", "far"):
                liked = preferences(method, users, pairs_of(pair, np.random.default_rng(2)), 3)
                trials = liked[: len(liked) // TRIAL * TRIAL].reshape(-1, TRIAL).mean(axis=1)
                row[f"{pair}: faithful %"] = 100 * float((trials > 0).mean())
                mean, spread = float(liked.mean()), float(liked.std())
                needed = POWER * spread**2 / mean**2 if mean > 0 else float("inf")
                row[f"{pair}: impressions"] = needed
                row[f"{pair}: ties %"] = 100 * float((liked == 0).mean())
            rows.append(row)
            print(row, flush=True)
    frame = pl.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.write_csv(RESULTS / "simulated.csv", float_precision=5)
    text = f"## Interleaving: simulated users\n\n| {' | '.join(frame.columns)} |\n|:---|:---|"
    text += "---:|" * (len(frame.columns) - 2) + "\n"
    for values in frame.iter_rows():
        cells = [
            x if isinstance(x, str) else f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3f}"
            for x in values
        ]
        text += f"| {' | '.join(cells)} |\n"
    text += (
        f"\nSIMULATED USERS. {QUERIES} queries, {SHOWN} impressions each; faithful: of trials with "
    )
    text += f"{TRIAL:,} impressions. Hardware: {hardware()}. Commit: {git_commit()}. "
    text += "Command: python experiments/interleaving/interleaving.py\n"
    (RESULTS / "simulated.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
