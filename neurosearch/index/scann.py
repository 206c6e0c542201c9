"""ScaNN (Guo et al. 2020): inverted lists whose codes are learnt for inner products, re-ordered.

The loss of its quantisation weighs an error along a vector more than one across it, and what a
vector leaves over is quantised by 4 bits a pair of dimensions and scanned in registers. Lists are
spilled to a second centre (SOAR, Sun et al. 2023). The library is `scann-core`, ScaNN without
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.exportable import Exportable
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.index.ivf import Lists
from neurosearch.index.live import LiveIndex

SPILL = 1.5  # SOAR's weight of a second centre that errs in another direction
FOLDER = "scann"


@dataclass(frozen=True)
class Searcher:
    """ScaNN's searcher, as far as an index is asked for it."""

    scann: Any
    ntotal: int
    d: int


@dataclass(frozen=True)
class LiveScann(LiveIndex):
    recipe: Scann

    def nearest(
        self, vectors: np.ndarray, k: int, subset: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if subset is None:
            return self._asked(vectors, k, k)
        if self.scores_all(subset):
            return self.among(vectors, k, subset)
        # It takes no selector: it is asked for more, until enough of them are wanted.
        share = max(1e-9, float(subset.mean()))
        wanted = min(self.index.ntotal, int(2 * k / share) + 10)
        rows, scores = self._asked(vectors, wanted, wanted)
        allowed = (rows >= 0) & subset[np.maximum(rows, 0)]
        order = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(allowed, order, axis=1)
        rows = np.where(kept, np.take_along_axis(rows, order, axis=1), -1)
        return rows, np.where(kept, np.take_along_axis(scores, order, axis=1), -np.inf)

    def _asked(self, vectors: np.ndarray, k: int, least: int) -> tuple[np.ndarray, np.ndarray]:
        candidates = max(least, min(self.recipe.candidates, self.index.ntotal))
        effort = {"leaves_to_search": min(self.recipe.probes, self.recipe.made(self.index.ntotal))}
        effort |= {"final_num_neighbors": k, "pre_reorder_num_neighbors": candidates}
        if len(vectors) == 1:
            rows, scores = self.index.scann.search(vectors[0], **effort)
            found, given = rows[None], scores[None]
        else:
            found, given = self.index.scann.search_batched(vectors, **effort)
        short = k - found.shape[1]
        found = np.pad(found.astype(np.int64), ((0, 0), (0, short)), constant_values=-1)
        given = np.pad(given, ((0, 0), (0, short)), constant_values=-np.inf)
        nothing = ~np.isfinite(given)  # its padding
        return np.where(nothing, -1, found), np.where(nothing, -np.inf, given)

    def compared(self, vectors: np.ndarray) -> np.ndarray:
        """Q int64: the centres, and what as many lists hold on average; candidates again."""
        count, cells = self.index.ntotal, self.recipe.made(self.index.ntotal)
        held = 2 * count * min(self.recipe.probes, cells) // cells  # each vector is in two lists
        return np.full(len(vectors), cells + held + min(self.recipe.candidates, count))


@dataclass(frozen=True)
class Scann(Lists):
    """Attributes:
    block: dimensions of one 4-bit code.
    anisotropic: from which cosine to the vector errors along it weigh more; the authors' .2.
    candidates: that are scored again by their floats.
    """

    block: int = setting(2, least=1)
    anisotropic: float = setting(0.2, least=0, below=1)
    candidates: int = setting(100, least=1)

    searching: ClassVar[Mapping[str, Any]] = {"probes": 1, "candidates": 100}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction != "none":
            raise self.error("reduction", "must be none for index=scann")

    @property
    def keeps_floats(self) -> bool:
        return False

    def filled(self, vectors: np.ndarray, runtime: Runtime | None = None) -> Searcher:
        builder = _library().scann_ops_pybind.builder
        held = np.ascontiguousarray(vectors, dtype=np.float32)
        count, width = held.shape
        made = builder(held, 10, "dot_product")
        cells = self.made(count)
        if cells > 1:
            sample = min(count, self.sampled(count))
            # A spilled list needs a second centre to go to.
            made = made.tree(cells, 1, training_sample_size=sample, soar_lambda=SPILL)
        made = made.score_ah(self.block, anisotropic_quantization_threshold=self.anisotropic)
        threads = 1 if runtime is None else runtime.cpu_threads
        return Searcher(made.reorder(100).set_n_training_threads(threads).build(), count, width)

    def write(self, index: Searcher, folder: Path) -> None:
        (folder / FOLDER).mkdir()
        index.scann.serialize(str(folder / FOLDER), relative_path=True)
        np.save(folder / FOLDER / "shape.npy", np.array([index.ntotal, index.d]))

    def read(self, folder: Path) -> Searcher:
        library, place = _library(), folder / FOLDER
        count, width = np.load(place / "shape.npy").tolist()
        return Searcher(library.scann_ops_pybind.load_searcher(str(place)), count, width)

    def exported(self, embeddings: Artifact[Embeddings], data: Artifact[Dataset]) -> Exportable:
        lines = (
            "import json, scann",
            "",
            f'searcher = scann.scann_ops_pybind.load_searcher("this/folder/{FOLDER}")',
            'ids = json.load(open("this/folder/ids.json"))',
            "rows, scores = searcher.search_batched(query_vectors)  # vectors of the encoder",
        )
        return replace(super().exported(embeddings, data), library="scann", example=lines)

    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        return LiveScann(index, encoder, self, rows)

    def coded(self, count: int, width: int) -> float:
        centres = 4.0 * width * self.made(count) / count
        # Two lists: codes and places twice; the floats that candidates are scored again by.
        return 4.0 * width + 2 * width / self.block + 8 + centres

    def label(self) -> str:
        return f"ScaNN {self.cells} probes {self.probes}"


def _library() -> Any:
    try:
        import scann
    except ImportError:
        raise InputError("index=scann needs scann-core: pip install scann-core") from None
    return scann
