"""The index role: built of one encoder's vectors, asked with vectors of the same encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.artifact import Artifact
from neurosearch.errors import InputError
from neurosearch.recipe import Recipe
from neurosearch.runtime import Runtime
from neurosearch.types import Embeddings


@dataclass(frozen=True)
class LiveIndex:
    """A loaded FAISS index over N vectors of one encoder; scores are inner products."""

    index: Any
    encoder: str

    def search(self, queries: Embeddings, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Q×k rows (int64, -1 padded) and scores (float32), best first.

        Raises InputError for vectors of another encoder than the index was built with.
        """
        if queries.encoder != self.encoder:
            raise InputError(
                f"the index holds vectors of encoder {self.encoder[:8]}, "
                f"but was asked with vectors of encoder {queries.encoder[:8]}"
            )
        vectors = np.ascontiguousarray(queries.vectors, dtype=np.float32)
        scores, rows = self.index.search(vectors, min(k, self.index.ntotal))
        return rows, scores


@dataclass(frozen=True)
class Index(Recipe):
    """Base of indexes."""

    def build(self, embeddings: Artifact[Embeddings]) -> Artifact[LiveIndex]:
        """The index of these vectors, as an artifact."""
        return IndexArtifact(self, embeddings)

    def train(self, vectors: np.ndarray) -> Any:
        """A FAISS index holding `vectors` (N×D float32), inner product."""
        raise TypeError(f"{type(self).__name__} does not say how it is built")


@dataclass(frozen=True)
class IndexArtifact(Artifact[LiveIndex]):
    """index.faiss and the encoder's fingerprint."""

    kind: ClassVar[str] = "index"
    index: Index
    embeddings: Artifact[Embeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        embeddings = runtime.get(self.embeddings)
        built = self.index.train(np.asarray(embeddings.vectors))
        faiss.write_index(built, str(folder / "index.faiss"))
        meta = {"encoder": embeddings.encoder}
        (folder / "index.json").write_text(json.dumps(meta), encoding="utf-8")
        return {"vectors": built.ntotal}

    def load(self, folder: Path) -> LiveIndex:
        import faiss

        meta = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        index = faiss.read_index(str(folder / "index.faiss"))
        return LiveIndex(index, meta["encoder"])
