"""Limits for a planned number of looks, exact for normal values (Armitage, McPherson and Rowe
1969).

The density of the sum at each look, of experiments that have not stopped, is carried from look to
look by numerical integration; the constant is chosen so that all crossings together have the level.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

POINTS = 801  # of the grid of sums


def crossing(limits: np.ndarray, shares: np.ndarray) -> float:
    """The chance that |z| reaches a limit at some look, without any effect.

    Args:
        limits: L float64, of |z|.
        shares: L float64, ascending: of the data at each look.

    Returns:
        A chance.
    """
    from scipy.stats import norm

    steps = np.sqrt(np.diff(shares, prepend=0.0))
    wide = limits * np.sqrt(shares)  # of the sum, whose variance is the share
    grid = np.linspace(-wide[0], wide[0], POINTS)
    density = norm.pdf(grid, scale=steps[0])
    for look in range(1, len(limits)):
        new = np.linspace(-wide[look], wide[look], POINTS)
        kernel = norm.pdf(new[:, None] - grid[None], scale=steps[look])
        density = np.trapezoid(kernel * density[None], grid, axis=1)
        grid = new
    return 1 - float(np.trapezoid(density, grid))


def solved(
    shape: Callable[[np.ndarray], np.ndarray], shares: np.ndarray, level: float
) -> np.ndarray:
    """The limits of a shape that are crossed with a given chance.

    Args:
        shape: limits with the constant 1, by share.
        shares: L float64, ascending, the last one 1.
        level: the chance.

    Returns:
        L float64.
    """
    from scipy.optimize import brentq

    whole = shape(shares)
    constant = brentq(lambda c: crossing(c * whole, shares) - level, 0.5, 8.0, xtol=1e-6)
    found: np.ndarray = float(constant) * whole
    return found
