"""Checks by name. A check takes a bench and raises `Failed`, or an error of the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurosearch.engine.conformance.world import Bench

Check = Callable[[Bench], None]
CHECKS: dict[str, Check] = {}


class FailedError(Exception):
    """An engine did not do what it must."""


def check(function: Check) -> Check:
    """Register a check under its name, with spaces.

    Args:
        function: of a bench.

    Returns:
        The function.
    """
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def expect(holds: bool | np.bool_, message: str) -> None:
    """Raise FailedError unless something holds.

    Args:
        holds: whether it does.
        message: what was found instead.
    """
    if not holds:
        raise FailedError(message)


def refused(work: Callable[[], object], *words: str) -> None:
    """Raise FailedError unless work raises an InputError that has these words.

    Args:
        work: that must be refused.
        words: of the message.
    """
    from neurosearch.core.errors import InputError

    try:
        work()
    except InputError as error:
        missing = [word for word in words if word not in str(error)]
        expect(not missing, f"the error does not say {missing}: {error}")
    else:
        raise FailedError("was not refused")


def same(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether two answers are equal but for rounding of scores.

    Args:
        first: numbers and scores.
        second: as first.

    Returns:
        True where they are.
    """
    close = np.allclose(first[1], second[1], rtol=1e-4, atol=1e-4)
    return bool(np.array_equal(first[0], second[0])) and close
