"""Four click models on the clicks of four kinds of users: what they predict, what they recover.

Run: python experiments/click_models/click_models.py (writes results/simulated.md and .csv)

Lists of ten products of known grades in the order of a noisy ranker, drawn anew for every session,
so that products stand at several ranks. A model is fitted to half of the sessions and predicts the
other half: perplexity of clicks with what was clicked above known (conditional) and unknown
(marginal). `attraction error`: root mean squared error of a pair's attraction, relative to the
first rank's being looked at; `examination error`: the largest of a rank's, for users by position.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from neurosearch.clicks.base import ClickLog, ClickModel, perplexity
from neurosearch.clicks.cascade import Cascade
from neurosearch.clicks.dbn import DBN
from neurosearch.clicks.pbm import PBM
from neurosearch.clicks.ubm import UBM
from neurosearch.core.machine import git_commit, hardware
from neurosearch.users.base import ATTRACTION, Users
from neurosearch.users.kinds import KINDS
from neurosearch.users.pbm import PBMUsers

MODELS: tuple[ClickModel, ...] = (PBM(), Cascade(), UBM(), DBN())
SESSIONS = (2_000, 20_000, 100_000)
QUERIES, PRODUCTS, K, NOISE = 50, 15, 10, 1.0
RESULTS = Path(__file__).with_name("results")


def drawn(users: Users, sessions: int, seed: int) -> tuple[ClickLog, np.ndarray]:
    """A log, and the grade of every pair."""
    rng = np.random.default_rng(seed)
    grades = np.random.default_rng(7).choice(4, size=(QUERIES, PRODUCTS), p=(0.4, 0.2, 0.2, 0.2))
    query = rng.integers(QUERIES, size=sessions)
    scores = grades[query] + rng.normal(0, NOISE, size=(sessions, PRODUCTS))
    order = np.argsort(-scores, axis=1)[:, :K]
    shown = np.take_along_axis(grades[query], order, axis=1)
    pairs = query[:, None] * PRODUCTS + order
    return ClickLog(pairs, users.clicks(shown, rng), QUERIES * PRODUCTS), grades.ravel()


def main(arguments: Sequence[str]) -> None:
    """Simulate, fit, and write the table."""
    rows = []
    for kind, users in KINDS.items():
        for sessions in SESSIONS:
            seen, grades = drawn(users, sessions, 0)
            unseen, _ = drawn(users, max(20_000, sessions), 1)
            planted = np.array(ATTRACTION)[grades]
            for model in MODELS:
                found = model.fit(seen)
                looked = found.parameters.get("examination", np.ones((1, 1)))
                scale = float(np.ravel(looked)[0])  # only products of the two are identified
                often = seen.summed(seen.shown.astype(float)) > 0
                error = (found.attraction * scale - planted)[often]
                row: dict[str, object] = {"users": kind, "sessions": sessions}
                row["model"] = type(model).__name__
                row["log-likelihood"] = found.likelihood(unseen)
                row["conditional"] = float(perplexity(found.conditional(unseen), unseen).mean())
                row["marginal"] = float(perplexity(found.marginal(unseen), unseen).mean())
                row["attraction error"] = float(np.sqrt((error**2).mean()))
                row["examination error"] = None
                if kind == "position" and isinstance(model, PBM):
                    true = PBMUsers().looked(K)
                    row["examination error"] = float(np.abs(looked / looked[0] - true).max())
                rows.append(row)
                print(row, flush=True)
    frame = pl.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.write_csv(RESULTS / "simulated.csv", float_precision=5)
    text = f"## Click models: simulated users\n\n| {' | '.join(frame.columns)} |\n|:---|---:|:---|"
    text += "---:|" * (len(frame.columns) - 3) + "\n"
    for values in frame.iter_rows():
        cells = [
            "" if x is None else f"{x:.3f}" if isinstance(x, float) else str(x) for x in values
        ]
        text += f"| {' | '.join(cells)} |\n"
    text += f"\nSIMULATED USERS. {QUERIES} queries of {PRODUCTS} products; held-out sessions. "
    text += f"Hardware: {hardware()}. Commit: {git_commit()}. Command: python "
    text += "experiments/click_models/click_models.py\n"
    (RESULTS / "simulated.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
