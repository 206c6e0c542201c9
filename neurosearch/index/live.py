"""A loaded index, and how it is asked: with filters, in any thread."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import Embeddings
from neurosearch.index.on_gpus import LONGEST, OnGpus, moved
from neurosearch.index.parameters import best_of, is_narrow, selected

if TYPE_CHECKING:
    from neurosearch.index.base import Index


@dataclass(frozen=True)
class LiveIndex:
    """A loaded FAISS index over N vectors of one encoder; scores are inner products.

    Attributes:
        recipe: how it is searched.
        rows: the products of its vectors, where some have none (a missing picture); else None.
        vectors: of all products as they were encoded, mapped from their file; None where that is
            gone. An index that keeps codes alone scores narrow subsets by them.
        moved: the index on GPUs, which searches the whole catalogue; None where it is on the CPU.
    """

    index: Any
    encoder: str
    recipe: Index
    rows: np.ndarray | None = None
    vectors: np.ndarray | None = None
    moved: OnGpus | None = field(default=None, compare=False)

    def on(self, runtime: Runtime) -> LiveIndex:
        """This index with the runtime's threads, or on its devices where it can use them.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            An index with the same vectors.
        """
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        probes: int | None = getattr(self.recipe, "probes", None)
        return replace(self, moved=moved(self.index, probes, runtime))

    def search(
        self, queries: Embeddings, k: int, subset: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Q×k rows (int64, -1 padded) and scores (float32), best first.

        Args:
            queries: Q vectors, of the encoder that the index was built with.
            k: results of each query.
            subset: N bool, the products that may be found; None for all. Of a narrow subset (FEW
                products, or a SHARE of all) every product is scored, by the vectors as they were
                encoded where the index keeps codes alone; of a wide one the index is searched
                with a filter.

        Returns:
            Rows and scores, each Q×k.

        Raises:
            InputError: for vectors of another encoder than the index was built with.
        """
        if queries.encoder != self.encoder:
            raise InputError(
                f"the index holds vectors of encoder {self.encoder[:8]}, "
                f"but was asked with vectors of encoder {queries.encoder[:8]}"
            )
        vectors = np.ascontiguousarray(queries.vectors, dtype=np.float32)
        if subset is not None and self.rows is not None:
            subset = subset[self.rows]
        rows, scores = self.nearest(vectors, min(k, self.index.ntotal), subset)
        if self.rows is not None:
            rows = np.where(rows >= 0, self.rows[rows], -1)
        asks = (vectors != 0).any(axis=1)[:, None]  # nothing is asked by a missing picture
        return np.where(asks, rows, -1), scores

    def nearest(
        self, vectors: np.ndarray, k: int, subset: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `search`, of plain vectors and a k that the index has.

        Args:
            vectors: Q×D float32.
            k: results of each query.
            subset: bool by vector; None for all.

        Returns:
            Rows and scores, each Q×k.
        """
        if self.moved is not None and subset is None and k <= LONGEST:
            scores, rows = self.moved.search(vectors, k)
            return rows, scores
        selector, whole = None, False
        if subset is not None and self.scores_all(subset):
            return self.among(vectors, k, subset)
        if subset is not None:
            selector, whole = selected(subset), is_narrow(subset)
        parameters = self.recipe.parameters(self.index, k, selector, whole)
        scores, rows = self.index.search(vectors, k, params=parameters)
        return rows, scores

    def scores_all(self, subset: np.ndarray) -> bool:
        """Whether all of a subset are scored by their vectors as they were encoded.

        Args:
            subset: bool by vector.

        Returns:
            False where the index itself finds them.
        """
        return self.vectors is not None and not self.recipe.keeps_floats and is_narrow(subset)

    def among(
        self, vectors: np.ndarray, k: int, subset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Exact search in a subset.

        Args:
            vectors: Q×D float32.
            k: results of each query.
            subset: bool by vector.

        Returns:
            Rows and scores, each Q×k.
        """
        assert self.vectors is not None
        inside = np.flatnonzero(subset)
        held = self.vectors[inside if self.rows is None else self.rows[inside]]
        return best_of(vectors @ np.asarray(held, dtype=np.float32).T, inside, k)

    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: how many vectors each query is compared with.

        Args:
            vectors: Q×D float32.

        Returns:
            Q int64.
        """
        return np.full(len(vectors), self.index.ntotal)
