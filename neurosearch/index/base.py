"""The index role: built of one encoder's vectors, asked with vectors of the same encoder.

Any index may first reduce the dimensions: `truncate` keeps the first ones (meant for encoders
trained with Matryoshka), `pca` rotates onto the principal components of the products. Both
re-normalise, so scores stay cosines; queries pass the same transform.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import write_whole
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings

REDUCTIONS = ("none", "truncate", "pca")


@dataclass(frozen=True)
class LiveIndex:
    """A loaded FAISS index over N vectors of one encoder; scores are inner products.

    `rows`: the products of its vectors, where some have none (a missing picture); else None.
    """

    index: Any
    encoder: str
    rows: np.ndarray | None = None

    def on(self, runtime: Runtime) -> LiveIndex:
        """This index with the runtime's threads, or on its devices where it can use them.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            An index with the same vectors.
        """
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        return self

    def search(self, queries: Embeddings, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Q×k rows (int64, -1 padded) and scores (float32), best first.

        Args:
            queries: Q vectors, of the encoder that the index was built with.
            k: results of each query.

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
        rows, scores = self.nearest(vectors, min(k, self.index.ntotal))
        if self.rows is not None:
            rows = np.where(rows >= 0, self.rows[rows], -1)
        asks = (vectors != 0).any(axis=1)[:, None]  # nothing is asked by a missing picture
        return np.where(asks, rows, -1), scores

    def nearest(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `search`, of plain vectors and a k that the index has.

        Args:
            vectors: Q×D float32.
            k: results of each query.

        Returns:
            Rows and scores, each Q×k.
        """
        scores, rows = self.index.search(vectors, k)
        return rows, scores

    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: how many vectors each query is compared with.

        Args:
            vectors: Q×D float32.

        Returns:
            Q int64.
        """
        return np.full(len(vectors), self.index.ntotal)


@dataclass(frozen=True)
class Index(Recipe):
    """Base of indexes. `dimensions`: after the reduction."""

    reduction: str = setting("none", choices=REDUCTIONS)
    dimensions: int | None = setting(None, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.reduction == "none") != (self.dimensions is None):
            raise self.error("dimensions", "goes with index.reduction=truncate or pca")

    def build(self, embeddings: Artifact[Embeddings]) -> Artifact[LiveIndex]:
        """The index of these vectors, as an artifact.

        Args:
            embeddings: of the products, as an artifact.

        Returns:
            The index as an artifact.
        """
        return IndexArtifact(self, embeddings)

    def exported(self, embeddings: Artifact[Embeddings], data: Artifact[Dataset]) -> Exportable:
        """The FAISS file, with the ids of its vectors beside it.

        Args:
            embeddings: of the products, as an artifact.
            data: whose products they are.

        Returns:
            What `task=export` writes.
        """
        artifact = self.build(embeddings)

        def write(folder: Path, runtime: Runtime) -> None:
            source = runtime.store.ensure(artifact)
            shutil.copyfile(source / "index.faiss", folder / "index.faiss")
            rows, ids = runtime.get(artifact).rows, runtime.get(data).catalogue.ids
            shown = ids if rows is None else ids.gather(rows)
            write_whole(folder / "ids.json", json.dumps(shown.to_list()).encode())

        lines = (
            "import faiss, json",
            "",
            'index = faiss.read_index("this/folder/index.faiss")',
            'ids = json.load(open("this/folder/ids.json"))',
            "scores, rows = index.search(query_vectors, 10)  # vectors of the encoder",
            "products = [[ids[row] for row in best if row >= 0] for best in rows]",
        )
        label = f"Index: {self.label()}"
        return Exportable(label, "faiss", "", lines, write, is_trained=False)

    def train(self, vectors: np.ndarray) -> Any:
        """A FAISS index holding `vectors` (N×D float32), inner product.

        Args:
            vectors: N×D float32.

        Returns:
            A FAISS index.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is built")

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        """The loaded index.

        Args:
            index: the FAISS index.
            encoder: the identity of the vectors.
            rows: the products of its vectors; None for all, in order.

        Returns:
            The index, ready to search.
        """
        return LiveIndex(index, encoder, rows)

    def label(self) -> str:
        name = type(self).__name__
        return name if self.reduction == "none" else f"{name} {self.reduction} {self.dimensions}"


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
        vectors = np.asarray(embeddings.vectors, dtype=np.float32)
        there = (vectors != 0).any(axis=1)
        if not there.all():
            np.save(folder / "rows.npy", np.flatnonzero(there))
            vectors = vectors[there]
        built = reduced(self.index, vectors)
        faiss.write_index(built, str(folder / "index.faiss"))
        meta = {"encoder": embeddings.encoder}
        (folder / "index.json").write_text(json.dumps(meta), encoding="utf-8")
        size = (folder / "index.faiss").stat().st_size
        return {"vectors": built.ntotal, "bytes a product": round(size / built.ntotal, 1)}

    def load(self, folder: Path) -> LiveIndex:
        import faiss

        meta = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        index = faiss.read_index(str(folder / "index.faiss"))
        rows = np.load(folder / "rows.npy") if (folder / "rows.npy").exists() else None
        return self.index.live(index, meta["encoder"], rows)


def reduced(recipe: Index, vectors: np.ndarray) -> Any:
    """The recipe's FAISS index behind its reduction.

    Args:
        recipe: of the index.
        vectors: N×D float32.

    Returns:
        A FAISS index that takes unreduced vectors.

    Raises:
        InputError: for too many dimensions.
    """
    import faiss

    if recipe.reduction == "none":
        return recipe.train(np.ascontiguousarray(vectors))
    width, kept = vectors.shape[1], recipe.dimensions
    assert kept is not None
    if kept > width:
        raise InputError(f"index.dimensions is {kept}, the vectors have {width}")
    transform: Any
    if recipe.reduction == "pca":
        transform = faiss.PCAMatrix(width, kept)
        transform.train(vectors)
    else:
        transform = faiss.LinearTransform(width, kept, False)
        faiss.copy_array_to_vector(np.eye(kept, width, dtype=np.float32).ravel(), transform.A)
        transform.is_trained = True
    unit = faiss.NormalizationTransform(kept, 2.0)
    inner = recipe.train(unit.apply(transform.apply(vectors)))
    index = faiss.IndexPreTransform(inner)
    index.prepend_transform(unit)
    index.prepend_transform(transform)
    index.ntotal = inner.ntotal
    return index


def behind_reduction(index: Any, vectors: np.ndarray) -> tuple[Any, np.ndarray]:
    """The FAISS index that holds the reduced vectors, and Q×D vectors reduced as those were.

    Args:
        index: a FAISS index.
        vectors: Q×D float32.

    Returns:
        The inner index and Q×d vectors for it.
    """
    import faiss

    whole: Any = faiss.downcast_index(index)
    if not isinstance(whole, faiss.IndexPreTransform):
        return whole, vectors
    chain: Any = whole.chain
    for number in range(chain.size()):
        vectors = faiss.downcast_VectorTransform(chain.at(number)).apply(vectors)
    return faiss.downcast_index(whole.index), vectors
