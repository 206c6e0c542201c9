"""How often a trial without any effect is called significant, by rule and number of looks.

Run: python experiments/peeking/peeking.py   (writes results/simulated.md and .csv)

Simulated users: each asks one or several queries, clicks more or less readily, by position. Both
arms see the same lists (an A/A trial), or the second arm clicks more by an effect that one look
finds with 80 % power. At each look the z value is that of clicks a user; users come in equal parts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from neurosearch.core.machine import git_commit, hardware
from neurosearch.stopping.base import Stopping
from neurosearch.stopping.fixed import Fixed
from neurosearch.stopping.msprt import MSPRT
from neurosearch.stopping.obrien_fleming import OBrienFleming
from neurosearch.stopping.pocock import Pocock
from neurosearch.trial.effect import smallest_effect
from neurosearch.trial.simulated import Population, shown_alone
from neurosearch.users.pbm import PBMUsers

RULES: tuple[Stopping, ...] = (
    Fixed(),
    Fixed(peeks=True),
    Pocock(),
    OBrienFleming(),
    MSPRT(),
)
LOOKS = (1, 5, 10, 20)
USERS, TRIALS, PART = 4_000, 10_000, 500  # an arm; of each kind; trials at a time
RESULTS = Path(__file__).with_name("results")


def clicks_a_user(count: int, rng: np.random.Generator) -> np.ndarray:
    """Clicks of simulated users: U float64."""
    grades = rng.choice(4, size=(500, 10), p=(0.5, 0.2, 0.2, 0.1)).astype(np.int64)
    population = Population.drawn(count, len(grades), rng)
    clicks = shown_alone(population, grades, PBMUsers(), rng)
    return population.summed(clicks.sum(axis=1).astype(np.float64))


def values(
    pool: np.ndarray, effect: float, looks: int, trials: int, rng: np.random.Generator
) -> np.ndarray:
    """z at each look: T×L."""
    found = []
    sizes = USERS * np.arange(1, looks + 1) // looks
    for _ in range(0, trials, PART):
        sums = []
        for add in (0.0, effect):
            drawn = pool[rng.integers(len(pool), size=(PART, USERS))] + add
            totals, squares = drawn.cumsum(axis=1), (drawn**2).cumsum(axis=1)
            mean = totals[:, sizes - 1] / sizes
            sums.append((mean, (squares[:, sizes - 1] / sizes - mean**2) / (sizes - 1)))
        (first, a), (second, b) = sums
        found.append((second - first) / np.sqrt(a + b))
    return np.concatenate(found)


def main(arguments: Sequence[str]) -> None:
    """Simulate, and write the table."""
    trials = int(arguments[0]) if arguments else TRIALS
    if trials < PART:
        raise SystemExit(f"the number of trials must be {PART} or more, not {trials}")
    rng = np.random.default_rng(0)
    pool = clicks_a_user(200_000, rng)
    effect = smallest_effect(float(pool.std()), USERS)
    rows = []
    for looks in LOOKS:
        shares = np.arange(1, looks + 1) / looks
        null = values(pool, 0.0, looks, trials, rng)
        real = values(pool, effect, looks, trials, rng)
        for rule in RULES:
            wrong = rule.stops(null, shares) >= 0
            right = rule.stops(real, shares)
            error = float(np.sqrt(wrong.mean() * (1 - wrong.mean()) / len(wrong)))
            ended = np.where(right >= 0, shares[right], 1.0)
            rows.append(
                {
                    "rule": rule.label(),
                    "looks": looks,
                    "type I %": 100 * float(wrong.mean()),
                    "± 95 %": 196 * error,
                    "power %": 100 * float((right >= 0).mean()),
                    "users to the end %": 100 * float(ended.mean()),
                }
            )
            print(rows[-1], flush=True)
    frame = pl.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.write_csv(RESULTS / "simulated.csv", float_precision=4)
    text = f"## Looking before the end: simulated users\n\n| {' | '.join(frame.columns)} |\n|:---|"
    text += "---:|" * (len(frame.columns) - 1) + "\n"
    for row in frame.iter_rows():
        cells = [f"{x:.1f}" if isinstance(x, float) else str(x) for x in row]
        text += f"| {' | '.join(cells)} |\n"
    text += f"\nSIMULATED USERS. {trials:,} trials of {USERS:,} users an arm for each row; clicks "
    text += (
        f"a user have mean {pool.mean():.2f} and standard deviation {pool.std():.2f}, the planted "
    )
    text += f"effect is {effect:.3f}. Hardware: {hardware()}. Commit: {git_commit()}. "
    text += f"Command: python experiments/peeking/peeking.py{' ' if arguments else ''}"
    text += f"{' '.join(arguments)}\n"
    (RESULTS / "simulated.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
