"""Neighbours: people who bought the same lately (V-SkNN, Ludewig and Jannach 2018).

The products of a history count the more the newer they are (position / length). The `neighbours`
nearest of the people who share a product with it vote for what they bought. Simple neighbours beat
most networks in the comparisons of Ludewig et al. (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.profile.base import Profile, purchases


@dataclass(frozen=True)
class VSkNN(Profile):
    """`neighbours`: people who vote."""

    neighbours: int = setting(100, least=1)

    def learnt(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        return [People(view.learning(data, "train"), self.longest)]

    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> Neighbours:
        return Neighbours(runtime.get(self.learnt(data)[0]), self.neighbours)

    def label(self) -> str:
        return "V-SkNN"


@dataclass(frozen=True)
class Neighbours:
    """Attributes:
    bought: P×N sparse, 1 for what a person bought.
    count: neighbours that vote.
    """

    bought: Any
    count: int

    @cached_property
    def _length(self) -> np.ndarray:
        """P float64: root of the number of products."""
        found: np.ndarray = np.sqrt(np.maximum(np.asarray(self.bought.sum(axis=1)).ravel(), 1.0))
        return found

    def scores(self, texts: Sequence[str], histories: np.ndarray) -> np.ndarray:
        from scipy.sparse import csr_matrix

        there = histories >= 0
        place = np.cumsum(there, axis=1) / np.maximum(there.sum(axis=1, keepdims=True), 1)
        line, column = np.nonzero(there)
        shape = (len(histories), self.bought.shape[1])
        cells = (line, histories[line, column])
        weights = csr_matrix((place[line, column], cells), shape)
        near = np.asarray((weights @ self.bought.T).todense()) / self._length
        if near.shape[1] > self.count:
            limit = -np.partition(-near, self.count - 1, axis=1)[:, self.count - 1 : self.count]
            near = np.where(near >= limit, near, 0.0)
        found: np.ndarray = np.asarray(csr_matrix(near) @ self.bought.todense(), dtype=np.float32)
        return found


@dataclass(frozen=True)
class People(Artifact[Any]):
    """bought.npz: what each person bought, a sparse matrix of ones."""

    kind: ClassVar[str] = "profile"
    data: Artifact[Dataset]
    longest: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from scipy.sparse import csr_matrix, save_npz

        data = runtime.get(self.data)
        sequences = purchases(data, "train", self.longest).sequences()
        people = np.repeat(np.arange(len(sequences)), [len(set(one)) for one in sequences])
        rows = np.array([row for one in sequences for row in sorted(set(one))], dtype=np.int64)
        shape = (len(sequences), len(data.catalogue))
        save_npz(folder / "bought.npz", csr_matrix((np.ones(len(rows)), (people, rows)), shape))
        return {"people": len(sequences)}

    def load(self, folder: Path) -> Any:
        from scipy.sparse import load_npz

        return load_npz(folder / "bought.npz")
