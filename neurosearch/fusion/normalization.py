"""Score normalisations, per query over the retrieved list.

`min-max`, `max`, `sum`, `zmuv` and `rank` are ranx's definitions. `theoretical` min-max (TM2C2
of Bruch, Gai, Ingber 2022) is (s - floor) / (max - floor), floor being the least score that
the system can give, so that 0 means the same for a product that was not retrieved.
"""

from __future__ import annotations

import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.run import Run

TINY = 1e-9  # the least denominator: lists of equal scores become zeros
_SCORE = pl.col("score")
_RULES = {
    "none": _SCORE,
    "min-max": (_SCORE - _SCORE.min()) / (_SCORE.max() - _SCORE.min()).clip(TINY),
    "max": _SCORE / _SCORE.max().clip(TINY),
    "sum": (_SCORE - _SCORE.min()) / (_SCORE - _SCORE.min()).sum().clip(TINY),
    "zmuv": (_SCORE - _SCORE.mean()) / _SCORE.std(ddof=0).clip(TINY),
    "rank": 1 - (pl.col("rank") - 1) / pl.len(),
}
NORMS = (*_RULES, "theoretical")


def check(norm: str) -> None:
    """Raise InputError for an unknown normalisation."""
    if norm not in NORMS:
        raise InputError(f"fusion.norm must be one of {', '.join(NORMS)}, not {norm!r}")


def normalised(name: str, run: Run, norm: str) -> pl.DataFrame:
    """The run's frame with normalised scores. `name` is the member's, for the error.

    Raises InputError for `theoretical` where the run's floor is unknown.
    """
    if norm != "theoretical":
        rule = _RULES[norm]
    elif run.floor is None:
        message = f"the scores of member {name!r} have no known floor: choose another"
        raise InputError(f"fusion.norm=theoretical: {message} fusion.norm")
    else:
        rule = (_SCORE - run.floor) / (_SCORE.max() - run.floor).clip(TINY)
    return run.frame.with_columns(score=rule.over("query_id"))
