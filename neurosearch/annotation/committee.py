"""Entropy of votes: a system votes for a pair by showing it (Seung et al. 1992).

Pairs that half of the systems show are judged first. It does not look at ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Pool, Sampled


@dataclass(frozen=True)
class Committee(Sampled):
    def sizes(self, pool: Pool) -> np.ndarray:
        votes = (pool.weights > 0).mean(axis=0)
        rest = 1 - votes
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = [np.where(p > 0, -p * np.log2(p), 0.0) for p in (votes, rest)]
        found: np.ndarray = terms[0] + terms[1]
        return found
