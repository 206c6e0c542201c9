"""Several raters: how far they agree, and what a pair is worth by all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from neurosearch.annotation.files import Label
from neurosearch.evaluation.agreement import confusion, kappa


def worth(labels: Sequence[Label], gains: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """The mean gain of each pair over its judges.

    Args:
        labels: of all judges.
        gains: of 0 to 1, by grade.

    Returns:
        By query id and product id.
    """
    said: dict[tuple[str, str], list[float]] = {}
    for one in labels:
        said.setdefault((one.query_id, one.product_id), []).append(gains[one.label])
    return {pair: float(np.mean(values)) for pair, values in said.items()}


def agreement(labels: Sequence[Label], grades: Sequence[str]) -> list[dict[str, object]]:
    """Cohen's κ of every two judges, with linear weights.

    Args:
        labels: of all judges.
        grades: lowest first.

    Returns:
        One entry for each two judges with pairs in common.
    """
    by_judge: dict[str, dict[tuple[str, str], int]] = {}
    for one in labels:
        number = grades.index(one.label)
        by_judge.setdefault(one.judge, {})[one.query_id, one.product_id] = number
    found: list[dict[str, object]] = []
    for first, second in combinations(sorted(by_judge), 2):
        shared = sorted(by_judge[first].keys() & by_judge[second].keys())
        if not shared:
            continue
        sides = [np.array([by_judge[judge][pair] for pair in shared]) for judge in (first, second)]
        counts = confusion(sides[0], sides[1], len(grades))
        value = kappa(counts) if len(np.unique(np.concatenate(sides))) > 1 else float("nan")
        found.append({"judges": f"{first}, {second}", "pairs": len(shared), "kappa": value})
    return found
