"""Looks at a trial on its way: z values at shares of the callers, and where a rule stops."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurosearch.stopping.base import Stopping
from neurosearch.trial.effect import Effect


def looked(effects: list[Effect], shares: np.ndarray, rule: Stopping) -> dict[str, Any]:
    """What a rule says at each look.

    Args:
        effects: at each look, from the first one on.
        shares: L float64, of the planned callers, ascending.
        rule: when to stop.

    Returns:
        z and limits, and the share at which it stops (None: never).
    """
    values = np.array([[effect.z for effect in effects]])
    limits = rule.limits(shares)
    at = int(rule.stops(values, shares)[0])
    return {
        "rule": rule.label(),
        "shares": [round(float(x), 4) for x in shares],
        "z": [round(float(x), 4) for x in values[0]],
        "limits": [None if np.isinf(x) else round(float(x), 4) for x in limits],
        "stops at": None if at < 0 else round(float(shares[at]), 4),
    }
