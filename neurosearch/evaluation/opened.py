"""Opening all judgments, for reports on what has been learnt already.

Nothing that learns may import this; a test holds the list of those who do.
"""

from __future__ import annotations

from dataclasses import replace

from neurosearch.core.types import (
    BEHAVIOUR,
    PRODUCTS,
    SPLITS,
    Dataset,
    judgments_of,
    pool_of,
    queries_of,
)


def opened(data: Dataset) -> Dataset:
    """The data set with all of its parts, the test split's judgments included."""
    kinds = (queries_of, pool_of, judgments_of)
    parts = {kind(split) for kind in kinds for split in SPLITS}
    return replace(data, parts=frozenset({PRODUCTS, BEHAVIOUR, *parts}))
