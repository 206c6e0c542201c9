"""A written semantic ID comes apart into its codes, each named by what its products are called."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.explainer.base import Explain, Explanation, Part, Scene
from neurosearch.retriever.generative import Generative

NAMES = 3  # words of a code


def code_names(ids: SemanticIds, titles: list[str], row: int) -> list[str]:
    """Names of the prefixes of a product's ID: the words that its products share, and others lack.

    A word's worth is n·log(p(word | prefix) / p(word)), its part of the mutual information.

    Args:
        ids: of all products.
        titles: by row.
        row: of the product.

    Returns:
        One name a level.
    """
    everywhere = Counter(word for title in titles for word in _words(title))
    inside = np.arange(len(titles))
    names = []
    for level in range(ids.codes.shape[1]):
        inside = inside[np.asarray(ids.codes[inside, level]) == ids.codes[row, level]]
        here = Counter(word for place in inside for word in _words(titles[place]))
        share = len(titles) / len(inside)

        def worth(word: str, here: Counter[str] = here, share: float = share) -> float:
            return here[word] * float(np.log(here[word] * share / everywhere[word]))

        best = sorted(here, key=lambda word: (-worth(word), word))[:NAMES]
        names.append(f"{' '.join(best)} ({len(inside):,} products)")
    return names


def _words(title: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{3,}", title.lower()))


def written_parts(system: Generative, live: Any, scene: Scene) -> Explain:
    """Explain a generator's score: log-probabilities of the codes, and the weighted cosine.

    Args:
        system: the retriever.
        live: its searcher.
        scene: data, request and runtime.

    Returns:
        A function that explains.
    """
    from neurosearch.generator.network import path_scores

    ids = scene.runtime.get(system.tokenizer.semantic_ids(scene.data))
    titles = scene.runtime.get(scene.data).catalogue.all_texts(("title",))
    weight = live.limits[2]

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        read = live.query.texts([text])
        codes = np.asarray(ids.codes)[rows]
        which = np.zeros(len(rows), dtype=np.int64)
        model = live.model
        steps = path_scores(model.network, model.tokens(read), which, codes, model.device)
        (vector,) = live.encoder.encode(read)
        cosines = np.asarray(live.vectors[rows], dtype=np.float32) @ vector
        found = []
        for number, row in enumerate(rows):
            named = code_names(ids, titles, int(row))
            parts = [
                Part(f"code {level + 1}: {codes[number, level]}", float(value), name)
                for level, (value, name) in enumerate(zip(steps[number], named, strict=True))
            ]
            note = f"{cosines[number]:.4g} × {weight:g}"
            parts.append(Part("cosine", float(weight * cosines[number]), note))
            how = "log-probability of each code of the product's ID, and the weighted cosine"
            found.append(Explanation(float(scores[number]), tuple(parts), how=how))
        return found

    return explain
