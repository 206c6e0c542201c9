"""Holm's correction for several tests (Holm 1979)."""

from __future__ import annotations

import numpy as np


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's (1979) adjusted p-values: reject where the adjusted value is at most alpha."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.maximum.accumulate(p_values[order] * factors).clip(max=1.0)
    result: np.ndarray = np.empty_like(adjusted)
    result[order] = adjusted
    return result
