"""Encoders of terms: texts become weights over a vocabulary, most of which are 0.

The weights are artifacts: of the catalogue's products, and of a split's queries. What a query and
a product have in common is the inner product of their weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.distributed import barrier, world
from neurosearch.core.errors import InputError
from neurosearch.core.query import QueryProcessor
from neurosearch.core.ragged import offsets_of
from neurosearch.core.runtime import Runtime
from neurosearch.core.shards import SHARD, Parts
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import SparseVectors
from neurosearch.encoder.shaped import ShapedEncoder


class LiveTerms(Protocol):
    """A loaded encoder of terms."""

    def encode(self, texts: list[str], side: int) -> Any:
        """Weights of texts.

        Args:
            texts: N texts.
            side: 0 for queries, 1 for products.

        Returns:
            An N×V SciPy CSR matrix of float32.
        """


@dataclass(frozen=True)
class SparseEncoder(ShapedEncoder):
    """Base of encoders of terms. The fields: see `ShapedEncoder`."""

    def product_weights(self, data: Artifact[Dataset]) -> Artifact[SparseVectors]:
        """Weights of the catalogue's products.

        Args:
            data: whose products are encoded.

        Returns:
            The weights as an artifact, by row of the catalogue.
        """
        parts: tuple[Any, ...] = (view.products(data), tuple(self.fields), self.separator)
        return ProductWeights(*self._network(data), *parts)

    def query_weights(
        self, data: Artifact[Dataset], split: str, query: QueryProcessor
    ) -> Artifact[SparseVectors]:
        """Weights of a split's processed queries.

        Args:
            data: whose queries are encoded.
            split: `train`, `dev` or `test`.
            query: how the query texts are processed first.

        Returns:
            The weights as an artifact, in the split's order.
        """
        parts: tuple[Any, ...] = (view.with_queries(data, split), split, query)
        return QueryWeights(*self._network(data), *parts)


@dataclass(frozen=True)
class WeightsArtifact(Artifact[SparseVectors]):
    """The three arrays of a CSR matrix, and the encoder's identity."""

    kind: ClassVar[str] = "term_weights"
    resumable: ClassVar[bool] = True
    shape: Any  # a recipe with `live`
    trained: Artifact[Path] | None
    identity: str
    precision: str
    data: Artifact[Dataset]

    def encode(self, texts: list[str], side: int, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Write the weights of all texts, shard by shard; whole shards of a kill are kept.

        Args:
            texts: N texts.
            side: 0 for queries, 1 for products.
            folder: of the artifact.
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Shape, mean number of terms and seconds, for the manifest.

        Raises:
            InputError: all weights are 0.
        """
        from scipy.sparse import csr_matrix

        weights = None if self.trained is None else runtime.get(self.trained)
        live: LiveTerms = self.shape.live(weights, self.precision, runtime)
        parts, start = Parts(folder), time.perf_counter()
        with runtime.progressing("encoding terms", len(texts)) as advance:
            for number, first in enumerate(range(0, len(texts), SHARD)):
                if parts.missing(number):
                    matrix = live.encode(texts[first : first + SHARD], side)
                    counts, width = np.diff(matrix.indptr), np.array(matrix.shape[1])
                    entries = {"data": matrix.data, "indices": matrix.indices}
                    parts.write(number, counts=counts, width=width, **entries)
                advance(min(SHARD, len(texts) - first))
        barrier()
        if world()[0]:
            return {}
        names = ("counts", "data", "indices")
        counts, data, indices = (np.concatenate(list(parts.arrays(name))) for name in names)
        data, indices, offsets = (
            data.astype(np.float32),
            indices.astype(np.int32),
            offsets_of(counts),
        )
        shape = (len(texts), int(next(parts.arrays("width"))))
        if not len(data):
            raise InputError(f"{self.kind}: no text has a term; was the encoder trained?")
        SparseVectors(csr_matrix((data, indices, offsets), shape), self.identity).save(folder)
        parts.remove()
        took = round(time.perf_counter() - start, 3)
        terms = round(len(data) / len(texts), 2)
        return {"shape": list(shape), "terms a text": terms, "encoding seconds": took}

    def load(self, folder: Path) -> SparseVectors:
        return SparseVectors.load(folder)


@dataclass(frozen=True)
class ProductWeights(WeightsArtifact):
    """Of the catalogue's products."""

    spreads: ClassVar[bool] = True
    fields: tuple[str, ...]
    separator: str

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        texts = runtime.get(self.data).catalogue.all_texts(self.fields, self.separator)
        return self.encode(texts, 1, folder, runtime)


@dataclass(frozen=True)
class QueryWeights(WeightsArtifact):
    """Of a split's queries."""

    split: str
    query: QueryProcessor

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        texts = runtime.get(self.data).queries(self.split).texts
        return self.encode(self.query.reader(runtime).texts(texts), 0, folder, runtime)
