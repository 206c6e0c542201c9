"""The same class for every pair, or one drawn by their frequencies: what others must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from neurosearch.classifier.base import Classifier, Probabilities, learnt_split
from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset


@dataclass(frozen=True)
class Constant(Classifier):
    """Attributes:
    name: of the class; None for the most frequent one of train (of dev where there is no train).
    drawn: a class is drawn for each pair instead, by those frequencies.
    """

    name: str | None = None
    drawn: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and self.name not in self.classes.names:
            known = ", ".join(self.classes.names)
            raise self.error("name", f"is {self.name!r}, no class of {known}")

    def probabilities(
        self, data: Artifact[Dataset], request: RetrievalRequest
    ) -> Artifact[pl.DataFrame]:
        split = learnt_split(data)
        parts = view.learning(data, split), split, self.name, self.drawn, self.seed
        return Frequencies(request.view(data), request, self.classes, *parts)

    def label(self) -> str:
        if self.drawn:
            return "drawn by frequency"
        return f"always {self.name or 'the most frequent class'}"


@dataclass(frozen=True)
class Frequencies(Probabilities):
    """Certainty of one class a pair."""

    learnt: Artifact[Dataset]
    split: str
    name: str | None
    drawn: bool
    seed: int

    def shares(self, pairs: pl.DataFrame, runtime: Runtime) -> np.ndarray:
        count = len(self.classes.names)
        labels = runtime.get(self.learnt).judgments(self.split).frame["label"]
        known = np.bincount(self.classes.of(labels), minlength=count) / max(1, len(labels))
        if self.drawn:
            said = np.random.default_rng(self.seed).choice(count, pairs.height, p=known)
        else:
            place = known.argmax() if self.name is None else self.classes.names.index(self.name)
            said = np.full(pairs.height, place)
        return np.eye(count)[said]
