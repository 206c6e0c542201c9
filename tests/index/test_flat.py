"""Exact search, kept on disk and loaded again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import Embeddings
from neurosearch.index.flat import Flat


@dataclass(frozen=True)
class Drawn(Artifact[Embeddings]):
    """Random unit vectors."""

    kind: ClassVar[str] = "drawn"
    count: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        vectors = np.random.default_rng(0).normal(size=(self.count, 16)).astype(np.float32)
        np.save(folder / "vectors.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        (folder / "embeddings.json").write_text('{"encoder": "drawn"}')
        return {}

    def load(self, folder: Path) -> Embeddings:
        return Embeddings.load(folder)


@pytest.mark.parametrize("k", [5, 80])
def test_it_finds_the_nearest(runtime: Runtime, k: int) -> None:
    embeddings = Drawn(50)
    index = runtime.get(Flat().build(embeddings))
    vectors = np.asarray(runtime.get(embeddings).vectors)
    rows, scores = index.search(Embeddings(vectors[:7], "drawn"), k)
    exact = vectors[:7] @ vectors.T
    width = min(k, 50)
    assert rows.shape == (7, width)
    assert scores == pytest.approx(-np.sort(-exact, axis=1)[:, :width], abs=1e-6)
    assert rows[:, 0].tolist() == list(range(7))
