"""The users role: simulated, and labelled so wherever a number rests on them.

A user sees a list of graded products (0 the worst, -1 no product) and clicks. `expected` is the
chance of each click in closed form, which simulations are held against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosearch.core.recipe import Recipe

ATTRACTION = (0.02, 0.1, 0.3, 0.8)  # chance of a click on what is looked at: I, C, S, E


@dataclass(frozen=True)
class Users(Recipe):
    """`attraction`: chance of a click on a product that is looked at, by grade."""

    attraction: tuple[float, ...] = ATTRACTION

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.attraction or not all(0 <= chance <= 1 for chance in self.attraction):
            raise self.error("attraction", f"must be chances, not {self.attraction}")

    def clicks(
        self, grades: np.ndarray, rng: np.random.Generator, bias: np.ndarray | None = None
    ) -> np.ndarray:
        """What is clicked.

        Args:
            grades: S×K int64, -1 where there is no product.
            rng: of the draws.
            bias: S float64, a user's own propensity to click, relative to `attraction`; None: 1.

        Returns:
            S×K bool.
        """
        raise TypeError(f"{type(self).__name__} does not say what is clicked")

    def expected(self, grades: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """Chances of clicks, before any is known.

        Args:
            grades: S×K int64, -1 where there is no product.
            bias: as in `clicks`.

        Returns:
            S×K float64.
        """
        raise TypeError(f"{type(self).__name__} does not say what is expected")

    def attracted(self, grades: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """Chances of a click on what is looked at.

        Args:
            grades: S×K int64, -1 where there is no product.
            bias: S float64; None: 1.

        Returns:
            S×K float64.
        """
        chances = np.append(np.array(self.attraction), 0.0)[grades]  # -1 is the last place
        if bias is not None:
            chances = np.clip(chances * bias[:, None], 0.0, 1.0)
        found: np.ndarray = chances
        return found
