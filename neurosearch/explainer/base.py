"""Explanations: a product's score as a sum of parts, and the role that gives them.

The invariant of an exact explanation: its constant and its parts add up to the score that is shown.
Where they do not (an index that loses precision, a network that can only be probed), it says that
it is approximate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.recipe import Recipe
from neurosearch.core.retrieval import RetrievalRequest, Retriever, Searcher
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset

TOLERANCE = 1e-5  # of a score; scores are float32


@dataclass(frozen=True)
class Part:
    """What contributes to a score.

    Attributes:
        name: of the part, such as a word or a member of a hybrid.
        value: that it adds to the score.
        note: for the reader, such as a rank.
        parts: what `value` itself is the sum of, if that is known.
        of: why the member gave the score that `value` was made from.
    """

    name: str
    value: float
    note: str = ""
    parts: tuple[Part, ...] = ()
    of: Explanation | None = None


@dataclass(frozen=True)
class Explanation:
    """Why a product has a score.

    Attributes:
        score: as shown.
        parts: largest first.
        constant: that no part stands for.
        how: in what way the parts were found.
        probed: parts were found by leaving words out, and need not add up.
    """

    score: float
    parts: tuple[Part, ...]
    constant: float = 0.0
    how: str = ""
    probed: bool = False

    @property
    def total(self) -> float:
        """The constant and all parts."""
        return self.constant + sum(part.value for part in self.parts)

    @property
    def is_exact(self) -> bool:
        """Whether the constant and the parts add up to the score."""
        near = abs(self.total - self.score) <= TOLERANCE * max(1.0, abs(self.score))
        return near and not self.probed

    def as_json(self) -> dict[str, Any]:
        """Nested dictionaries, lists and scalars.

        Returns:
            The explanation, JSON-able.
        """
        return {
            "score": self.score,
            "constant": self.constant,
            "exact": self.is_exact,
            "how": self.how,
            "parts": [_as_json(part) for part in self.parts],
        }


def _as_json(part: Part) -> dict[str, Any]:
    found: dict[str, Any] = {"name": part.name, "value": part.value}
    if part.note:
        found["note"] = part.note
    if part.parts:
        found["parts"] = [_as_json(below) for below in part.parts]
    if part.of is not None:
        found["of"] = part.of.as_json()
    return found


def sorted_parts(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts by how much they add or take away, the largest first; equal ones keep their order.

    Args:
        parts: in any order.

    Returns:
        All of them.
    """
    return tuple(sorted(parts, key=lambda part: -abs(part.value)))


# A query, product rows and their scores, to an explanation of each.
Explain = Callable[[str, np.ndarray, np.ndarray], list[Explanation]]


@dataclass(frozen=True)
class Scene:
    """What explanations are made of: the data, the request, and where things run."""

    data: Artifact[Dataset]
    request: RetrievalRequest
    runtime: Runtime


@dataclass(frozen=True)
class Explained:
    """A live system with its explanations."""

    searcher: Searcher
    explain: Explain


@dataclass(frozen=True)
class Explainer(Recipe):
    """Base of explainers."""

    def opened(self, system: Retriever, scene: Scene) -> AbstractContextManager[Explained]:
        """The live system, which explains its answers.

        Args:
            system: with a live searcher.
            scene: data, request and runtime.

        Returns:
            A context that yields it, and frees what it holds at its end.

        Raises:
            InputError: the system has no live searcher.
        """
        raise TypeError(f"{type(self).__name__} does not say how it explains")

    def statements(
        self, text: str, rows: np.ndarray, whys: Sequence[Explanation], scene: Scene
    ) -> list[str]:
        """What there is to say in sentences, for the reader; nothing by default.

        Args:
            text: of the query, as typed.
            rows: of the products, best first.
            whys: their explanations.
            scene: data, request and runtime.

        Returns:
            Lines.
        """
        return []


@dataclass(frozen=True)
class Statement:
    """A sentence about the products, and the ranks of those it cites.

    Attributes:
        text: the sentence.
        cites: ranks from 1.
    """

    text: str
    cites: tuple[int, ...]
