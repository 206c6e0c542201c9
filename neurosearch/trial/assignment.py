"""Which arm a user is in, and whether the arms have the users that they should have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from neurosearch.core.errors import InputError

BUCKETS = 10_000
MISMATCH = 0.0005  # p below which no result is shown


def bucket(salt: str, unit: str) -> int:
    """The bucket of a unit: the same on every machine, independent for another salt.

    Args:
        salt: of the experiment.
        unit: what is assigned, such as a user's id.

    Returns:
        0 to 9,999.
    """
    content = f"{len(salt)}|{salt}|{unit}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") % BUCKETS


def arm(salt: str, unit: str, shares: Sequence[float]) -> int:
    """The arm of a unit. A new arm at the end takes units from nobody but the rest.

    Args:
        salt: of the experiment.
        unit: what is assigned.
        shares: of the arms, up to 1 together; units beyond are in none.

    Returns:
        The arm's number, or -1.

    Raises:
        InputError: no salt, or shares that are none.
    """
    if not salt:
        raise InputError("task.salt: an experiment needs one, or two would split users alike")
    if min(shares, default=0) <= 0 or sum(shares) > 1 + 1e-9:
        raise InputError(f"task.shares must be above 0 and at most 1 together, not {list(shares)}")
    edges = np.cumsum(shares) * BUCKETS
    found = int(np.searchsorted(edges - 1e-6, bucket(salt, unit), side="right"))
    return found if found < len(shares) else -1


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> float:
    """The p-value of the arms' sizes (sample-ratio mismatch), by chi-squared on units.

    Args:
        counts: units in each arm.
        shares: that they should have.

    Returns:
        p; below `MISMATCH` something is wrong with the assignment or the log, and no result counts.
    """
    from scipy.stats import chisquare

    wanted = np.array(shares) / np.sum(shares) * np.sum(counts)
    return float(chisquare(counts, wanted).pvalue)
