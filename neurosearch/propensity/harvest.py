"""Intervention harvesting (Agarwal et al. 2019): the same pair at two ranks, as it happened.

Of pairs that stood at ranks k and k', click rates weighted by the smaller number of impressions
differ by examination alone. The log ratios of all pairs of ranks are fitted by weighted least
squares, so every overlap counts, and not those with the first rank alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.logs.base import LoggedClicks
from neurosearch.propensity.base import Features, Propensity, shown_at


@dataclass(frozen=True)
class Harvest(Propensity):
    def estimated(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        log = logged.log
        self.check_moving(log)
        counts = shown_at(log)
        rates = shown_at(log, log.clicks.astype(np.float64)) / np.maximum(counts, 1)
        ranks = counts.shape[1]
        lines, ratios, weights = [], [], []
        for k in range(ranks):
            for other in range(k + 1, ranks):
                weight = np.minimum(counts[:, k], counts[:, other])
                here, there = (float((weight * rates[:, r]).sum()) for r in (k, other))
                if here > 0 and there > 0:
                    line = np.zeros(ranks)
                    line[k], line[other] = 1, -1
                    lines.append(line)
                    ratios.append(np.log(here / there))
                    # The variance of a log of a count is about one over the count.
                    weights.append(1 / (1 / here + 1 / there))
        if len(lines) < ranks - 1:
            raise InputError("propensity=harvest: too few clicks on pairs that stood at two ranks")
        root = np.sqrt(np.array(weights))
        design = np.array(lines)[:, 1:] * root[:, None]  # the first rank's log is 0
        solved, *_ = np.linalg.lstsq(design, np.array(ratios) * root, rcond=None)
        found: np.ndarray = np.exp(np.concatenate([[0.0], solved]))
        return found
