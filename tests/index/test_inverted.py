"""The inverted index is exact: a dense product is its oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.vectors import SparseVectors
from neurosearch.index.inverted import Inverted, nearest, postings_of


def random_weights(rng: np.random.Generator, rows: int, terms: int) -> np.ndarray:
    values = rng.integers(1, 8, (rows, terms)).astype(np.float32) / 4
    return values * (rng.random((rows, terms)) < 0.3)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12), st.integers(1, 40))
def test_equal_to_the_dense_product(seed: int, products: int, terms: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    shown, queries = random_weights(rng, products, terms), random_weights(rng, 4, terms)
    rows, scores, read = nearest(postings_of(csr_matrix(shown)), csr_matrix(queries), k)
    dense = queries @ shown.T
    for number in range(4):
        order = sorted(range(products), key=lambda row: (-dense[number, row], row))
        expected = [row for row in order if dense[number, row] > 0][:k]
        found = len(expected)
        assert rows[number, :found].tolist() == expected
        assert (rows[number, found:] == -1).all()
        np.testing.assert_allclose(scores[number, :found], dense[number, expected], rtol=1e-6)
        assert read[number] == (shown[:, queries[number] > 0] > 0).sum()


@dataclass(frozen=True)
class Given(Artifact[SparseVectors]):
    """Weights of a seed."""

    kind = "given"
    seed: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        matrix = csr_matrix(random_weights(np.random.default_rng(self.seed), 200, 50))
        SparseVectors(matrix, "e").save(folder)
        return {}

    def load(self, folder: Path) -> SparseVectors:
        return SparseVectors.load(folder)


def test_eight_bits_are_within_half_a_step(runtime: Runtime) -> None:
    weights = runtime.get(Given(1))
    queries = SparseVectors(weights.matrix[:20], "e")
    exact = runtime.get(Inverted().build(Given(1)))
    short = runtime.get(Inverted(bits=8).build(Given(1)))
    assert short.postings.weights.dtype == np.uint8
    step = weights.matrix.max() / 255
    for index in (exact, short):
        rows, scores, _ = index.search(queries, 200)
        dense = np.asarray(queries.matrix.toarray() @ weights.matrix.toarray().T)
        bound = queries.matrix.sum(axis=1).max() * step / 2 if index is short else 0
        there = rows >= 0
        expected = np.take_along_axis(dense, np.maximum(rows, 0), 1)
        assert np.abs(scores - expected)[there].max() <= bound + 1e-4
    sizes = [runtime.store.ensure(Inverted(bits=b).build(Given(1))) for b in (None, 8)]
    bytes_of = [(folder / "weights.npy").stat().st_size for folder in sizes]
    assert bytes_of[1] < 0.3 * bytes_of[0]


def test_weights_of_another_encoder_are_refused(runtime: Runtime) -> None:
    index = runtime.get(Inverted().build(Given(1)))
    with pytest.raises(InputError, match="holds weights of encoder"):
        index.search(SparseVectors(csr_matrix((1, 50), dtype=np.float32), "other"), 3)
    with pytest.raises(InputError, match=r"Inverted\.bits must be 8 or null, not 4"):
        Inverted(bits=4)
