"""An inverted index of learned term weights: for each term the products that have it.

A query's terms are gone through one after another, and each adds its weight times the products'
weights to their scores (term at a time); the result is the exact inner product.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import SparseVectors

STEPS = 255  # of a weight in 8 bits


@dataclass(frozen=True)
class Inverted(Recipe):
    """Attributes:
    bits: of a product's weight: 8, in steps of the largest one's 255th; None for float32.
    """

    bits: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (None, 8):
            raise self.error("bits", f"must be 8 or null, not {self.bits}")

    def build(self, weights: Artifact[SparseVectors]) -> Artifact[LiveInverted]:
        """The index of these weights.

        Args:
            weights: of the products, as an artifact.

        Returns:
            The index as an artifact.
        """
        return InvertedIndex(self, weights)

    def label(self) -> str:
        return "inverted" if self.bits is None else f"inverted, {self.bits} bits"


@dataclass(frozen=True)
class Postings:
    """Of term t the products rows[offsets[t]:offsets[t + 1]], with their weights.

    Attributes:
        offsets: V+1 int64.
        rows: P int32, ascending within a term.
        weights: P float32, or P uint8 to be multiplied by `scale`.
        products: how many there are.
    """

    offsets: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    products: int
    scale: float = 1.0


def postings_of(weights: Any) -> Postings:
    """The postings of an N×V CSR matrix of weights."""
    columns = weights.tocsc()
    columns.sort_indices()
    offsets = columns.indptr.astype(np.int64)
    return Postings(offsets, columns.indices.astype(np.int32), columns.data, weights.shape[0])


@dataclass(frozen=True)
class InvertedIndex(Artifact[Any]):
    """offsets.npy, rows.npy and weights.npy (see `Postings`)."""

    kind: ClassVar[str] = "inverted"
    index: Inverted
    weights: Artifact[SparseVectors]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        source = runtime.get(self.weights)
        postings, scale = postings_of(source.matrix), 1.0
        stored = postings.weights
        if self.index.bits == 8:
            scale = float(stored.max(initial=0.0)) / STEPS
            # At least one step: a product keeps all its terms.
            stored = np.clip(np.rint(stored / scale), 1, STEPS).astype(np.uint8)
        np.save(folder / "offsets.npy", postings.offsets)
        np.save(folder / "rows.npy", postings.rows)
        np.save(folder / "weights.npy", stored)
        facts = {"encoder": source.encoder, "products": postings.products, "scale": scale}
        (folder / "index.json").write_text(json.dumps(facts), encoding="utf-8")
        size = sum(file.stat().st_size for file in folder.iterdir())
        count = max(1, postings.products)
        return {"postings": len(stored), "bytes a product": round(size / count, 1)}

    def load(self, folder: Path) -> LiveInverted:
        facts = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        offsets, rows, weights = (
            np.load(folder / f"{name}.npy") for name in ("offsets", "rows", "weights")
        )
        postings = Postings(offsets, rows, weights, facts["products"], facts["scale"])
        return LiveInverted(postings, facts["encoder"])


@dataclass(frozen=True)
class LiveInverted:
    """A loaded index; scores are inner products."""

    postings: Postings
    encoder: str

    def search(self, queries: SparseVectors, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The best products of each query; only products that have one of its terms.

        Args:
            queries: Q texts' weights, of the encoder that the index was built with.
            k: results of each query.

        Returns:
            Q×k rows (int64, -1 padded) and scores (float32), best first, equal scores by row; and
            Q counts of postings that were read.

        Raises:
            InputError: the weights are another encoder's.
        """
        if queries.encoder != self.encoder:
            raise InputError(
                f"the index holds weights of encoder {self.encoder[:8]}, "
                f"but was asked with weights of encoder {queries.encoder[:8]}"
            )
        return nearest(self.postings, queries.matrix, k)


def nearest(known: Postings, queries: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The products of the largest inner products, among those that have a term of the query.

    Args:
        known: of the products.
        queries: Q×V CSR matrix of weights.
        k: results of each query.

    Returns:
        Q×k rows (int64, -1 padded) and scores (float32), best first, equal scores by row; and Q
        counts of postings that were read.
    """
    count = queries.shape[0]
    rows = np.full((count, k), -1, dtype=np.int64)
    scores = np.zeros((count, k), dtype=np.float32)
    read = np.zeros(count, dtype=np.int64)
    for number in range(count):
        begin, end = queries.indptr[number], queries.indptr[number + 1]
        totals = np.zeros(known.products, dtype=np.float32)
        for term, weight in zip(queries.indices[begin:end], queries.data[begin:end], strict=True):
            of_term = slice(known.offsets[term], known.offsets[term + 1])
            # No product is twice in a term's list, so nothing is lost by this addition.
            totals[known.rows[of_term]] += weight * known.weights[of_term]
            read[number] += of_term.stop - of_term.start
        best = _best(totals, k)
        rows[number, : len(best)] = best
        scores[number, : len(best)] = totals[best] * np.float32(known.scale)
    return rows, scores, read


def _best(totals: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k largest totals above 0, best first, equal ones by row."""
    found = np.flatnonzero(totals > 0)
    if len(found) > k:
        least = np.partition(totals[found], len(found) - k)[len(found) - k]
        found = found[totals[found] >= least]
    order: np.ndarray = found[np.lexsort((found, -totals[found]))][:k]
    return order
