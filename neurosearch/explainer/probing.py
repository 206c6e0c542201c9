"""Explanations by leaving words of the query out, for systems whose scores do not come apart.

A word's part is what the product's score loses without it. Parts need not add up to the score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurosearch.core.retrieval import Searcher
from neurosearch.explainer.base import Explain, Explanation, Part, sorted_parts

HOW = "what the score loses when a word of the query is left out"


def probe_searches(live: Searcher, depth: int) -> Explain:
    """Probe a live system.

    Args:
        live: the searcher.
        depth: products that are looked for; one that is not found again lost all of its lead over
            the last one that was.

    Returns:
        A function that explains.
    """

    def score(text: str, rows: np.ndarray) -> np.ndarray:
        found, scores = live.search([text], depth)
        there = found[0] >= 0
        known = dict(zip(found[0][there].tolist(), scores[0][there].tolist(), strict=True))
        least = min(known.values(), default=0.0)
        return np.array([known.get(int(row), least) for row in rows])

    return probe(score)


def probe(score: Callable[[str, np.ndarray], np.ndarray]) -> Explain:
    """Probe a function that scores products for a text.

    Args:
        score: from a text and R rows to R scores.

    Returns:
        A function that explains.
    """

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        words = text.split()
        lost = np.zeros((len(words), len(rows)))
        for place in range(len(words) if len(words) > 1 else 0):
            shorter = " ".join(words[:place] + words[place + 1 :])
            lost[place] = scores - score(shorter, rows)
        if len(words) == 1:
            lost[0] = scores
        return [
            Explanation(
                float(scores[number]),
                sorted_parts(
                    [Part(w, float(x)) for w, x in zip(words, lost[:, number], strict=True)]
                ),
                how=HOW,
                probed=True,
            )
            for number in range(len(rows))
        ]

    return explain
