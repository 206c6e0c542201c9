"""What was bought, weighted by how near it is to the query: softmax of the cosines.

Nothing is learnt. With a large temperature it is the plain mean of the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.profile.base import Profile
from neurosearch.profile.vectors import MeanTaste


@dataclass(frozen=True)
class Attention(Profile):
    """Attributes:
    encoder: of queries and products.
    temperature: of the softmax over cosines.
    """

    encoder: Encoder = field(default_factory=Sentence)
    temperature: float = setting(0.1, above=0)

    def learnt(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        return [self.encoder.product_embeddings(view.products(data))]

    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> MeanTaste:
        vectors = runtime.get(self.learnt(data)[0]).vectors
        live = self.encoder.loaded(runtime, data)

        def weights(texts: Sequence[str], histories: np.ndarray) -> np.ndarray:
            cosines = np.einsum("qd,qtd->qt", live.encode(texts), vectors[np.maximum(histories, 0)])
            scaled = np.where(histories >= 0, cosines / self.temperature, -np.inf)
            top = np.maximum(scaled.max(axis=1, keepdims=True), -1e9)
            found: np.ndarray = np.exp(scaled - top)
            return found

        return MeanTaste(vectors, weights)
