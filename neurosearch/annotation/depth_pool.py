"""A shallow pool: first ranks first, for all queries; the rest counts as worthless."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.annotation.base import Adaptive, Pool, Rounds


@dataclass(frozen=True)
class DepthPool(Adaptive):
    def rounds(self, pool: Pool) -> Rounds:
        best = pool.weights.max(axis=0)
        for weight in np.unique(best)[::-1]:
            yield np.flatnonzero(best == weight)

    def label(self) -> str:
        return "depth pool"
