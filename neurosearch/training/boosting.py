"""Gradient-boosted trees by LightGBM: what all of its learners share."""

from __future__ import annotations

import importlib.util
from typing import Any

from neurosearch.core.errors import InputError


def check_installed(choice: str) -> None:
    """Raise InputError where LightGBM is missing.

    Args:
        choice: that needs it, such as `reranker=lambdamart`.
    """
    if importlib.util.find_spec("lightgbm") is None:
        raise InputError(f"{choice} needs LightGBM: install neurosearch[ltr]")


def options_of(recipe: Any, threads: int) -> dict[str, Any]:
    """LightGBM's options, the same on every run.

    Args:
        recipe: with `rate`, `leaves`, `min_data` and `seed`.
        threads: to work with.

    Returns:
        Options by name, without the objective's own.
    """
    return {
        "learning_rate": recipe.rate,
        "num_leaves": recipe.leaves,
        "min_data_in_leaf": recipe.min_data,
        "seed": recipe.seed,
        "num_threads": threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
