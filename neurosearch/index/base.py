"""The index role: built of one encoder's vectors, asked with vectors of the same encoder.

Any index may first reduce the dimensions: `truncate` keeps the first ones (meant for encoders
trained with Matryoshka), `pca` rotates onto the principal components of the products. Both
re-normalise, so scores stay cosines; queries pass the same transform.

Fields of a recipe say how an index is built, or how it is searched (`searching`). Only the first
are part of the built index's identity: a sweep over `probes` builds once. A search never changes
the index; what it wants goes in as FAISS's search parameters, so that threads may share one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.shards import BLOCK, blocks_of, forgotten
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.index.export import FILE, exportable
from neurosearch.index.live import LiveIndex
from neurosearch.index.parameters import made_of, through

REDUCTIONS = ("none", "truncate", "pca")
SAMPLE = 65_536  # vectors that ranges, rotations and codebooks are learnt from


@dataclass(frozen=True)
class Index(Recipe):
    """Base of indexes. `dimensions`: after the reduction.

    Class attributes:
        searching: fields that only a search reads, and the value under which an index is built.
        needs_refinement: its scores are too coarse to be anything but candidates (`refine`).
    """

    reduction: str = setting("none", choices=REDUCTIONS)
    dimensions: int | None = setting(None, least=1)

    searching: ClassVar[Mapping[str, Any]] = {}
    needs_refinement: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.reduction == "none") != (self.dimensions is None):
            raise self.error("dimensions", "goes with index.reduction=truncate or pca")

    @property
    def keeps_floats(self) -> bool:
        """Whether its scores are those of the vectors, not of codes."""
        return True

    def write(self, index: Any, folder: Path) -> None:
        """Write what `filled` has built.

        Args:
            index: FAISS's.
            folder: of the artifact.
        """
        import faiss

        faiss.write_index(index, str(folder / FILE))

    def read(self, folder: Path) -> Any:
        """Read what `write` has written.

        Args:
            folder: of the artifact.

        Returns:
            A FAISS index.
        """
        import faiss

        return faiss.read_index(str(folder / FILE))

    def build(self, embeddings: Artifact[Embeddings]) -> Artifact[LiveIndex]:
        """The index of these vectors, as an artifact.

        Args:
            embeddings: of the products, as an artifact.

        Returns:
            The index as an artifact.
        """
        built = IndexArtifact(replace(self, **self.searching), embeddings)
        return SearchedIndex(built, self) if self.searching else built

    def parameters(self, index: Any, k: int, selector: Any, whole: bool) -> Any:
        """How FAISS searches.

        Args:
            index: FAISS's, behind its transforms or not.
            k: results of a query.
            selector: of the vectors that may be found; None for all.
            whole: look at every vector that may be found.

        Returns:
            FAISS's search parameters, or None for the usual ones.
        """
        import faiss

        if selector is None:
            return None
        return through(index, made_of(faiss.SearchParameters, sel=selector))

    def exported(self, embeddings: Artifact[Embeddings], data: Artifact[Dataset]) -> Exportable:
        """The FAISS file, with the ids of its vectors beside it.

        Args:
            embeddings: of the products, as an artifact.
            data: whose products they are.

        Returns:
            What `task=export` writes.
        """
        return exportable(self.build(embeddings), self.label(), embeddings, data)

    def trained(self, sample: np.ndarray, count: int) -> Any:
        """An empty FAISS index, ready for `count` vectors like the sample's; inner product.

        Args:
            sample: S×D float32, of the vectors.
            count: vectors that it will hold.

        Returns:
            A FAISS index.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is built")

    def sampled(self, count: int) -> int:
        """Vectors that are enough to learn from.

        Args:
            count: vectors that there are.

        Returns:
            A number, which may be larger than `count`.
        """
        return SAMPLE

    def bytes_a_vector(self, count: int, width: int) -> float:
        """Bytes of the file by formula, for each vector.

        Args:
            count: vectors.
            width: dimensions, before any reduction.

        Returns:
            Bytes; what does not grow with the catalogue is counted where it matters.
        """
        if self.dimensions is None:
            return self.coded(count, width)
        numbers = self.dimensions + (width if self.reduction == "pca" else 0)  # and all components
        turn = 4.0 * width * numbers / count
        return self.coded(count, self.dimensions) + turn

    def coded(self, count: int, width: int) -> float:
        """As `bytes_a_vector`, of vectors that have been reduced.

        Args:
            count: vectors.
            width: dimensions.

        Returns:
            Bytes.
        """
        raise TypeError(f"{type(self).__name__} does not say how large it is")

    def filled(self, vectors: np.ndarray, runtime: Runtime | None = None) -> Any:
        """A FAISS index holding `vectors`: learnt from a sample, then filled block by block.

        Args:
            vectors: N×D, of any float type; a mapped file's memory is given back.
            runtime: for the progress; None for none.

        Returns:
            A FAISS index, inner product.

        Raises:
            InputError: some are not finite, or the recipe does not fit them.
        """
        count = len(vectors)
        rows = np.arange(count)
        if count > self.sampled(count):  # catalogues are sorted: a sample is drawn
            drawn = np.random.default_rng(0).permutation(count)[: self.sampled(count)]
            rows = np.sort(drawn)
        parts = [rows[n : n + BLOCK] for n in range(0, len(rows), BLOCK)]
        sample = np.empty((len(rows), vectors.shape[1]), dtype=np.float32)
        for number, part in enumerate(parts):
            sample[number * BLOCK : number * BLOCK + len(part)] = vectors[part]
            forgotten(vectors)
        index = reduced(self, sample, count)
        del sample
        quiet = nullcontext(lambda done: None)
        with runtime.progressing("adding products", count) if runtime else quiet as advance:
            for block in blocks_of(vectors):
                if not np.isfinite(block).all():  # some indexes lose such a row without a word
                    raise InputError("some vectors are not finite")
                index.add(block)
                advance(len(block))
        return index

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        """The loaded index.

        Args:
            index: the FAISS index.
            encoder: the identity of the vectors.
            rows: the products of its vectors; None for all, in order.

        Returns:
            The index, ready to search.
        """
        return LiveIndex(index, encoder, self, rows)

    def label(self) -> str:
        name = type(self).__name__
        return name if self.reduction == "none" else f"{name} {self.reduction} {self.dimensions}"


@dataclass(frozen=True)
class IndexArtifact(Artifact[LiveIndex]):
    """index.faiss (or what the recipe writes), and the encoder's fingerprint."""

    kind: ClassVar[str] = "index"
    index: Index
    embeddings: Artifact[Embeddings]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import faiss

        faiss.omp_set_num_threads(runtime.cpu_threads)
        embeddings = runtime.get(self.embeddings)
        vectors = embeddings.vectors
        there = np.concatenate([block.any(axis=1) for block in blocks_of(vectors)])
        if not there.all():
            np.save(folder / "rows.npy", np.flatnonzero(there))
            vectors = vectors[there]
        built = self.index.filled(vectors, runtime)
        self.index.write(built, folder)
        meta = {"encoder": embeddings.encoder}
        (folder / "index.json").write_text(json.dumps(meta), encoding="utf-8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return {"vectors": built.ntotal, "bytes a product": round(size / built.ntotal, 1)}

    def load(self, folder: Path) -> LiveIndex:
        meta = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        index = self.index.read(folder)
        rows = np.load(folder / "rows.npy") if (folder / "rows.npy").exists() else None
        live = self.index.live(index, meta["encoder"], rows)
        # The vectors lie beside it in the store, unless they were pruned.
        encoded = folder.parent.parent / self.embeddings.stored().address / "vectors.npy"
        there = encoded.exists() and not self.index.keeps_floats
        return replace(live, vectors=np.load(encoded, mmap_mode="r")) if there else live


@dataclass(frozen=True)
class SearchedIndex(Artifact[LiveIndex]):
    """An index as a recipe searches it; what is stored is the index as it was built."""

    kind: ClassVar[str] = "index"
    built: IndexArtifact
    recipe: Index

    def stored(self) -> Artifact[LiveIndex]:
        return self.built

    def load(self, folder: Path) -> LiveIndex:
        live = self.built.load(folder)
        searched = self.recipe.live(live.index, live.encoder, live.rows)
        return replace(searched, vectors=live.vectors)


def reduced(recipe: Index, sample: np.ndarray, count: int) -> Any:
    """The recipe's empty FAISS index behind its reduction.

    Args:
        recipe: of the index.
        sample: S×D float32.
        count: vectors that it will hold.

    Returns:
        A FAISS index that takes unreduced vectors.

    Raises:
        InputError: for too many dimensions.
    """
    import faiss

    if recipe.reduction == "none":
        return recipe.trained(sample, count)
    width, kept = sample.shape[1], recipe.dimensions
    assert kept is not None
    if kept > width:
        raise InputError(f"index.dimensions is {kept}, the vectors have {width}")
    transform: Any
    if recipe.reduction == "pca":
        transform = faiss.PCAMatrix(width, kept)
        transform.train(sample)
    else:
        transform = faiss.LinearTransform(width, kept, False)
        faiss.copy_array_to_vector(np.eye(kept, width, dtype=np.float32).ravel(), transform.A)
        transform.is_trained = True
    unit = faiss.NormalizationTransform(kept, 2.0)
    inner = recipe.trained(unit.apply(transform.apply(sample)), count)
    index = faiss.IndexPreTransform(inner)
    index.prepend_transform(unit)
    index.prepend_transform(transform)
    return index
