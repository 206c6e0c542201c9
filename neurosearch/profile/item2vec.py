"""Products that are bought by the same people have near vectors (item2vec, Barkan and Koenigstein
2016), here by a singular value decomposition of shifted positive mutual information.

Skip-grams with negative sampling factorise the same matrix (Levy and Goldberg 2014); the
decomposition needs no steps and no seed. A profile is the mean of its products' vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.profile.base import Profile, purchases
from neurosearch.profile.vectors import MeanTaste, by_age


@dataclass(frozen=True)
class Item2Vec(Profile):
    """Attributes:
    dimensions: of the vectors.
    negatives: the shift is its logarithm.
    decay: of a product's weight, for every newer one.
    """

    dimensions: int = setting(64, least=1)
    negatives: float = setting(1.0, least=1)
    decay: float = setting(0.8, above=0, most=1)

    def learnt(self, data: Artifact[Dataset]) -> list[Artifact[Any]]:
        return [ItemVectors(view.learning(data, "train"), self)]

    def taste(self, data: Artifact[Dataset], runtime: Runtime) -> MeanTaste:
        vectors = runtime.get(self.learnt(data)[0])
        return MeanTaste(vectors, lambda texts, histories: by_age(histories, self.decay))


@dataclass(frozen=True)
class ItemVectors(Artifact[np.ndarray]):
    """vectors.npy: N×D float32, of length 1, or 0 for products that nobody bought with others."""

    kind: ClassVar[str] = "profile"
    data: Artifact[Dataset]
    recipe: Item2Vec

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from scipy.sparse.linalg import svds

        data = runtime.get(self.data)
        sequences = purchases(data, "train", self.recipe.longest).sequences()
        information = mutual_information(sequences, len(data.catalogue), self.recipe.negatives)
        if not information.nnz:
            raise InputError("profile=item2vec: no two products were bought by one person")
        size = min(self.recipe.dimensions, min(information.shape) - 1)
        start = np.ones(information.shape[0])  # of the iteration: a seed would do as well
        left, values, _ = svds(information, k=size, v0=start)
        vectors = left * np.sqrt(values)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.where(length > 1e-9, vectors / np.maximum(length, 1e-9), 0.0)
        np.save(folder / "vectors.npy", vectors.astype(np.float32))
        return {"people": len(sequences), "pairs": int(information.nnz)}

    def load(self, folder: Path) -> np.ndarray:
        vectors: np.ndarray = np.load(folder / "vectors.npy")
        return vectors


def mutual_information(sequences: list[tuple[int, ...]], products: int, negatives: float) -> Any:
    """Shifted positive mutual information of products that one person bought.

    Args:
        sequences: product rows by person.
        products: N.
        negatives: k; log k is subtracted.

    Returns:
        N×N sparse matrix, symmetric: max(0, log(n_ij n / (n_i n_j)) - log k).
    """
    from scipy.sparse import csr_matrix

    people = np.repeat(np.arange(len(sequences)), [len(set(one)) for one in sequences])
    rows = np.array([row for one in sequences for row in sorted(set(one))], dtype=np.int64)
    bought = csr_matrix((np.ones(len(rows)), (people, rows)), (len(sequences), products))
    together = (bought.T @ bought).tolil()
    together.setdiag(0)
    counts = together.tocoo()
    totals = np.asarray(together.sum(axis=1)).ravel()
    ratio = counts.data * totals.sum() / (totals[counts.row] * totals[counts.col])
    values = np.maximum(np.log(np.maximum(ratio, 1e-12)) - np.log(negatives), 0.0)
    found = csr_matrix((values, (counts.row, counts.col)), (products, products))
    found.eliminate_zeros()
    return found
