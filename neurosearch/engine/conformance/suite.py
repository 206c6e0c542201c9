"""All checks, in the order in which they are written."""

from __future__ import annotations

from neurosearch.engine.conformance import changes, filters, loading, ranking
from neurosearch.engine.conformance.checks import CHECKS, Check

MODULES = (loading, ranking, filters, changes)  # each registers its checks when it is imported


def all_checks() -> dict[str, Check]:
    """The suite.

    Returns:
        Functions of a bench by name.
    """
    return dict(CHECKS)
