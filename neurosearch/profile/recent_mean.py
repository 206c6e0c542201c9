"""The mean vector of what was bought last, newer products weighing more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.base import Encoder
from neurosearch.encoder.sentence import Sentence
from neurosearch.profile.base import Profile
from neurosearch.profile.vectors import MeanTaste, by_age


@dataclass(frozen=True)
class RecentMean(Profile):
    """Attributes:
    encoder: of the products.
    decay: of a product's weight, for every newer one.
    """

    longest: int = setting(10, least=1)
    encoder: Encoder = field(default_factory=Sentence)
    decay: float = setting(0.8, above=0, most=1)

    def learnt(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        return [self.encoder.product_embeddings(view.products(data))]

    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> MeanTaste:
        vectors = runtime.get(self.learnt(data)[0]).vectors
        return MeanTaste(vectors, lambda texts, histories: by_age(histories, self.decay))
