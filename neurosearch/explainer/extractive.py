"""Exact explanations, without any language model: what a score is the sum of.

| system | parts |
|---|---|
| BM25, with feedback or written queries | terms by fields |
| learned sparse | the query's weight of a term times the product's |
| dense, multiphase | words of the query by words of the product (mean pooling) |
| dense with feedback | the query, and each product that it moved towards |
| late interaction | tokens and their best matches |
| generative | log-probabilities of the codes, which are named by their products' words |
| hybrid | members' shares, each member explained |
| relaxed | the stage that found a product, and BM25's terms within it |
| re-ranked | stages, each explained; LambdaMART by features |
| anything else | words left out: approximate |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.retrieval import Retriever
from neurosearch.encoder.base import Encoder
from neurosearch.explainer.base import (
    Explain,
    Explained,
    Explainer,
    Explanation,
    Part,
    Scene,
    sorted_parts,
)
from neurosearch.explainer.codes import written_parts
from neurosearch.explainer.lexical import bm25_parts, sparse_parts
from neurosearch.explainer.probing import probe_searches
from neurosearch.explainer.stages import fused_parts, reranked_parts, staged_parts
from neurosearch.explainer.vectors import WordShares, cosine_parts, late_parts
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.bm25_tuned import TunedBM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.generative import Generative
from neurosearch.retriever.hybrid import Hybrid
from neurosearch.retriever.hyde import Hyde
from neurosearch.retriever.late_interaction import LateInteraction
from neurosearch.retriever.multiphase import Multiphase
from neurosearch.retriever.relaxed import Relaxed
from neurosearch.retriever.reranked import Reranked
from neurosearch.retriever.sparse import Sparse
from neurosearch.retriever.vector_feedback import VectorFeedback


@dataclass(frozen=True)
class Extractive(Explainer):
    """What the scores themselves are made of."""

    @contextmanager
    def opened(self, system: Retriever, scene: Scene) -> Iterator[Explained]:
        with system.searcher(scene.data, scene.request, scene.runtime) as live:
            yield Explained(live, explaining(system, live, scene))

    def label(self) -> str:
        return "extractive"


def explaining(system: Retriever, live: Any, scene: Scene) -> Explain:
    """How a live system's answers are explained.

    Args:
        system: the retriever.
        live: its searcher, of this retriever's own class.
        scene: data, request and runtime.

    Returns:
        From a typed query, rows and their scores to an explanation of each.
    """
    if isinstance(system, TunedBM25):
        return bm25_parts(live, live.scoring.boosts)
    if isinstance(system, BM25):
        return bm25_parts(live, system.weights)
    if isinstance(system, Sparse):
        return sparse_parts(system, live, scene)
    if isinstance(system, LateInteraction):
        return late_parts(system, live, scene)
    if isinstance(system, Generative):
        return written_parts(system, live, scene)
    if isinstance(system, Relaxed):
        return staged_parts(live, explaining(system.words, live.live, scene))
    if isinstance(system, Hybrid):
        members = {
            name: explaining(member, live.members[name], scene)
            for name, member in system.members.items()
        }
        return fused_parts(system, live, members)
    if isinstance(system, Reranked):
        first = explaining(system.retriever, live.first, scene)
        return reranked_parts(system, live, first, scene)
    encoder = _encoder_of(system)
    shares = None if encoder is None else WordShares.of(encoder, scene)
    if encoder is None or shares is None:
        return probe_searches(live, scene.request.depth)
    return _dense_parts(system, encoder, shares, live, scene)


def _encoder_of(system: Retriever) -> Encoder | None:
    """Whose vectors' inner products are the system's scores; None where they are not."""
    if isinstance(system, Hyde):
        return None
    if isinstance(system, Dense):
        return system.encoder
    return system.tokenizer.encoder if isinstance(system, Multiphase) else None


def _dense_parts(
    system: Retriever, encoder: Encoder, shares: WordShares, live: Any, scene: Scene
) -> Explain:
    products = scene.runtime.get(encoder.product_embeddings(scene.data))
    catalogue = scene.runtime.get(scene.data).catalogue
    texts = catalogue.all_texts(encoder.fields, encoder.separator)

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        (read,) = live.query.texts([text])
        asked = shares(read, 0)
        how = "words of the query by words of the product; special tokens count"
        if not isinstance(system, VectorFeedback):
            return [
                Explanation(
                    float(score),
                    tuple(cosine_parts(shares, products, texts, asked, int(row))),
                    how=how,
                )
                for row, score in zip(rows, scores, strict=True)
            ]
        near, factors = live.moved_by(read)
        result = []
        for row, score in zip(rows, scores, strict=True):
            own = cosine_parts(shares, products, texts, asked, int(row), factors[0])
            parts = [Part("the query", sum(part.value for part in own), parts=tuple(own))]
            vector = np.asarray(products.vectors[int(row)], dtype=np.float32)
            for place in near:
                value = factors[1] * float(vector @ products.vectors[int(place)])
                parts.append(Part(f"found first: {texts[int(place)]}", value))
            how = "the query, and the products that it moved towards"
            result.append(Explanation(float(score), sorted_parts(parts), how=how))
        return result

    return explain
