"""BM25 comes apart into terms and fields, learned sparse retrieval into terms: exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurosearch.explainer.base import Explain, Explanation, Part, Scene, sorted_parts
from neurosearch.retriever import bm25s_engine
from neurosearch.retriever.lucene_search import CONTENTS, Scoring
from neurosearch.retriever.sparse import Sparse


def bm25_parts(live: Any, weights: Mapping[str, float]) -> Explain:
    """Explain a BM25 searcher's scores by terms, and a term's part by fields.

    Args:
        live: a searcher of BM25, by either engine, or of feedback.
        weights: of the fields.

    Returns:
        A function that explains.
    """

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        (words,) = live.words([text])
        typed = live.typed(text) if hasattr(live, "typed") else words
        table = {
            token: [(name, _of_field(live, token, words[token], name, rows)) for name in weights]
            for token in words
        }
        return [
            Explanation(
                float(scores[number]),
                sorted_parts(
                    [
                        _term(token, words, typed, fields, number)
                        for token, fields in table.items()
                        if any(values[number] for _, values in fields)
                    ]
                ),
                how="BM25 of each term, summed over the fields with their weights",
            )
            for number in range(len(rows))
        ]

    return explain


def _term(token: str, words: Any, typed: Any, fields: Any, number: int) -> Part:
    below = [Part(name, float(values[number])) for name, values in fields if values[number]]
    note = "" if words[token] == 1 else f"weight {words[token]:.3g}"
    if token not in typed:
        note = f"{note}, fed back".lstrip(", ")
    return Part(token, sum(part.value for part in below), note, sorted_parts(below))


def _of_field(live: Any, token: str, weight: float, name: str, rows: np.ndarray) -> np.ndarray:
    """What a term gives each product in one field."""
    engine = getattr(live, "live", live)
    if hasattr(engine, "worker"):
        scoring = engine.scoring
        # A search of the one field `contents` has no boost.
        boost = scoring.boosts[name] if name == CONTENTS else 1.0
        alone = Scoring(scoring.k1, scoring.b, {name: scoring.boosts[name]})
        found, scores = engine.worker.search({token: weight}, len(rows), alone, rows.tolist())
        known = dict(zip(found.tolist(), (boost * scores).tolist(), strict=True))
        return np.array([known.get(int(row), 0.0) for row in rows])
    place = list(engine.fields).index(name)
    (total,) = bm25s_engine.all_scores([engine.indexes[place]], [{token: weight}])
    return np.asarray(total[rows], dtype=np.float64)


def sparse_parts(system: Sparse, live: Any, scene: Scene) -> Explain:
    """Explain learned sparse retrieval by terms: the query's weight times the product's.

    Args:
        system: the retriever.
        live: its searcher.
        scene: data, request and runtime.

    Returns:
        A function that explains.
    """
    products = scene.runtime.get(system.encoder.product_weights(scene.data)).matrix
    tower = getattr(live.live, "tower", None)
    tokenizer = None if tower is None else tower.tower.tokenizer

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        query = live.live.encode(live.query.texts([text]), 0)
        weights = np.asarray(query.todense()).ravel()
        found = []
        for row, score in zip(rows, scores, strict=True):
            shown = products[int(row)]
            values = weights[shown.indices] * shown.data
            parts = [
                Part(
                    str(term) if tokenizer is None else tokenizer.id_to_token(int(term)),
                    float(value),
                    f"{weights[term]:.3g} × {own:.3g}",
                )
                for term, own, value in zip(shown.indices, shown.data, values, strict=True)
                if value
            ]
            how = "a term's weight in the query times its weight in the product"
            found.append(Explanation(float(score), sorted_parts(parts), how=how))
        return found

    return explain
