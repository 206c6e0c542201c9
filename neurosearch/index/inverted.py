"""An inverted index of learned term weights: exact inner products, term at a time."""

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
from neurosearch.nn.postings import Postings, nearest, postings_of

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
